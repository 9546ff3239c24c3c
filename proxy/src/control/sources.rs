//! Reads configuration: files, and directories of files, into texts to compile.
//!
//! A directory means its `*.yaml` and `*.yml` entries in the order of their names, not those of its
//! subdirectories, and none that starts with a dot. Links are followed, which is what makes Kubernetes
//! volumes work: there `proxy.yaml` points to `..data/proxy.yaml` and `..data` is swapped. Everything is
//! bounded, so that a mistaken path (`/`, `/dev/zero`) is an error and not a proxy without memory.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use outrigger_config::{Fault, Origin, Severity, Source};

/// Largest file. The parser takes no more; the largest real configuration seen is a hundredth of it.
const MAX_FILE: u64 = 8 * 1024 * 1024;
/// Most files of one configuration.
const MAX_FILES: usize = 4096;
/// Largest sum of all files: what a reload may hold beside the configuration in force.
const MAX_TOTAL: usize = 32 * 1024 * 1024;

/// The texts behind `paths`, and a fault for each that cannot be read.
#[must_use]
pub fn load(paths: &[PathBuf]) -> (Vec<Source>, Vec<Fault>) {
    let mut sources = Vec::new();
    let mut faults = Vec::new();
    let mut total = 0;
    for file in files(paths, &mut faults) {
        match read(&file) {
            Ok(text) => {
                total += text.len();
                sources.push(Source { name: name(&file).into(), text });
            }
            Err(fault) => faults.push(fault),
        }
        if total > MAX_TOTAL {
            faults.push(fault(&file, format!("the files are larger than {MAX_TOTAL} bytes together")));
            break;
        }
    }
    (sources, faults)
}

/// A number that changes when what was loaded changes, or the content of a file that it names.
#[must_use]
pub fn digest(loaded: &(Vec<Source>, Vec<Fault>), named: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for source in &loaded.0 {
        (&source.name, &source.text).hash(&mut hasher);
    }
    for fault in &loaded.1 {
        fault.to_string().hash(&mut hasher);
    }
    for file in named {
        // One that cannot be read is told when it is loaded.
        read_bytes(file).unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish()
}

fn files(paths: &[PathBuf], faults: &mut Vec<Fault>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    for path in paths {
        let found = match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => match list(path) {
                Ok(found) if found.is_empty() => {
                    faults.push(fault(path, "the directory has no *.yaml or *.yml file"));
                    found
                }
                Ok(found) => found,
                Err(e) => {
                    faults.push(fault(path, format!("cannot list the directory: {e}")));
                    Vec::new()
                }
            },
            Ok(_) => vec![path.clone()],
            Err(e) => {
                faults.push(fault(path, format!("cannot read it: {e}")));
                Vec::new()
            }
        };
        files.extend(found.into_iter().filter(|f| seen.insert(f.clone())));
        if files.len() > MAX_FILES {
            faults.push(fault(path, format!("more than {MAX_FILES} files")));
            files.truncate(MAX_FILES);
            break;
        }
    }
    files
}

fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        let yaml = matches!(path.extension().and_then(OsStr::to_str), Some("yaml" | "yml"));
        // A link that leads nowhere is kept: reading it tells what is wrong.
        if yaml && !hidden && !path.is_dir() {
            found.push(path);
        }
        if found.len() > MAX_FILES {
            break;
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<String, Fault> {
    let bytes = read_bytes(path).map_err(|e| fault(path, format!("cannot read it: {e}")))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(fault(path, format!("larger than {MAX_FILE} bytes")));
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = good.iter().filter(|b| **b == b'\n').count() + 1;
        let start = good.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&good[start..]).chars().count() + 1;
        let place = |n| u32::try_from(n).unwrap_or(u32::MAX);
        let origin = Origin::new(name(path), place(line), place(column));
        Fault { origin, severity: Severity::Error, message: "not UTF-8 text".into() }
    })
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Before it is opened: opening a FIFO would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

fn fault(path: &Path, message: impl Into<String>) -> Fault {
    Fault { origin: Origin::new(name(path), 1, 1), severity: Severity::Error, message: message.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(sources: &[Source]) -> Vec<&str> {
        sources.iter().map(|s| s.name.rsplit('/').next().unwrap_or_default()).collect()
    }

    #[test]
    fn a_directory_is_its_yaml_files_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", ".hidden.yaml", "c.json", "z.yaml.bak"] {
            fs::write(dir.path().join(name), "x: 1\n").unwrap();
        }
        fs::create_dir(dir.path().join("d.yaml")).unwrap();
        let (sources, faults) = load(&[dir.path().into(), dir.path().join("b.yaml")]);
        assert_eq!(names(&sources), ["a.yml", "b.yaml"]);
        assert!(faults.is_empty(), "{faults:?}");
    }

    #[test]
    fn a_kubernetes_volume_is_read_through_its_links() {
        let dir = tempfile::tempdir().unwrap();
        for (version, text) in [("..1", "x: 1\n"), ("..2", "x: 2\n")] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("proxy.yaml"), text).unwrap();
        }
        symlink("..1", dir.path().join("..data")).unwrap();
        symlink("..data/proxy.yaml", dir.path().join("proxy.yaml")).unwrap();
        let before = load(&[dir.path().into()]);
        assert_eq!(before.0[0].text, "x: 1\n");
        symlink("..2", dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        let after = load(&[dir.path().into()]);
        assert_eq!(after.0[0].text, "x: 2\n");
        assert_ne!(digest(&before, &[]), digest(&after, &[]));
    }

    #[test]
    fn every_unreadable_thing_is_a_fault_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("latin.yaml"), b"a: 1\nb: \xe9\n").unwrap();
        fs::write(path("large.yaml"), vec![b'#'; MAX_FILE as usize + 1]).unwrap();
        fs::create_dir(path("empty")).unwrap();
        symlink("nowhere", path("dangling.yaml")).unwrap();
        let (sources, faults) = load(&[
            path("latin.yaml"),
            path("large.yaml"),
            path("empty"),
            path("none"),
            "/dev/zero".into(),
            path("dangling.yaml"),
        ]);
        assert!(sources.is_empty());
        let said: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 6, "{said:?}");
        assert!(said.iter().any(|f| f.ends_with("latin.yaml:2:4: not UTF-8 text")), "{said:?}");
        assert!(said.iter().any(|f| f.starts_with("/dev/zero:1:1: cannot read it: not a regular file")), "{said:?}");
    }
}
