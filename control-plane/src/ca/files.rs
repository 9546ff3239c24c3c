//! Files that hold keys: made readable for their owner alone, and replaced whole.
//!
//! A text is written beside its place, flushed, and renamed over it, so that a proxy that watches sees the old or the new one and never
//! half of it. Of several that belong together, all are written before the first is renamed: what lies between two renames is
//! less than a proxy waits for a change to settle. A link at the place is replaced, not followed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::CaError;

/// Largest file that is read. A bundle of 200 roots is well below; a device or a log file is not.
pub(super) const MAX_FILE: u64 = 1024 * 1024;

/// For everyone to read: certificates.
pub(super) const PUBLIC: u32 = 0o644;
/// For its owner: keys.
pub(super) const SECRET: u32 = 0o600;

/// Makes a directory, and those above it, that only its owner may enter. One that is there stays as it is.
pub(super) fn make_dir(dir: &Path) -> Result<(), CaError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))
}

/// A file that is written and not yet in its place. Dropped before it is, it is gone.
#[derive(Debug)]
pub(super) struct Draft {
    draft: PathBuf,
    place: PathBuf,
}

impl Draft {
    /// Writes and flushes `text` beside `place`.
    pub(super) fn write(place: PathBuf, text: &str, mode: u32) -> Result<Self, CaError> {
        let name = place.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        let draft = place.with_file_name(format!(".{name}.{:08x}", fastrand::u32(..)));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft).map_err(at(&draft))?;
        let made = Self { draft, place };
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(&made.draft))?;
        Ok(made)
    }

    /// Puts it in its place, over what is there.
    pub(super) fn replace(self) -> Result<(), CaError> {
        fs::rename(&self.draft, &self.place).map_err(at(&self.place))?;
        sync_parent(&self.place)
    }

    /// Puts it in its place if there is nothing; `false`: there is something.
    pub(super) fn keep_if_absent(self) -> Result<bool, CaError> {
        match fs::hard_link(&self.draft, &self.place) {
            Ok(()) => sync_parent(&self.place).map(|()| true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(at(&self.place)(e)),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename there is nothing to remove.
        drop(fs::remove_file(&self.draft));
    }
}

/// The file, wiped when dropped; `None`: there is none.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, CaError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(at(path)(e)),
    };
    // Room for all of it: a vector that grows leaves copies behind.
    let room = file.metadata().map_err(at(path))?.len().min(MAX_FILE) + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(room).unwrap_or(0)));
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(at(path))?;
    if text.len() as u64 > MAX_FILE {
        let why = format!("is larger than {MAX_FILE} bytes, so it holds no certificates");
        return Err(CaError::Pem { what: path.display().to_string(), why });
    }
    Ok(Some(text))
}

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> Result<(), CaError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(path)(e)),
        _ => sync_parent(path),
    }
}

/// So that a rename survives a power cut.
fn sync_parent(path: &Path) -> Result<(), CaError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(at(parent))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CaError {
    let path = path.to_owned();
    move |error| CaError::Io { path, error }
}
