//! The image: what is in it, that it runs, and that the Dockerfile and the build without an engine make the same.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use outrigger_tests::{
    binary,
    peers::{program, skip},
};
use serde_json::Value;
use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(status.success(), "{command:?}: {text}");
    text
}

/// Every file below, as a path of the image.
fn files(dir: &Path, below: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(below).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        if path.symlink_metadata().expect("it is there").is_dir() {
            files(dir, &path, found);
        } else {
            found.insert(Path::new("/").join(path.strip_prefix(dir).expect("below")));
        }
    }
}

fn programs() -> PathBuf {
    let dir = binary::outrigger().parent().expect("it is in a folder").to_owned();
    assert_eq!(binary::proxy().parent(), Some(&*dir), "both programs are in one folder");
    dir
}

#[test]
fn the_image_runs_both_programs_and_those_of_capture_and_has_nothing_else() {
    let scenario = "the_image_runs_both_programs";
    let (Some(_), Some(_)) = (program(scenario, "nft"), program(scenario, "iptables-nft-restore")) else { return };
    let dir = TempDir::new().expect("a directory");
    let image = dir.path().join("rootfs");
    run(Command::new(root().join("image/rootfs")).arg(programs()).arg(&image));
    let mut all = BTreeSet::new();
    files(&image, &image, &mut all);
    let is_program =
        |path: &&PathBuf| path.parent().is_some_and(|parent| parent.ends_with("bin") || parent.ends_with("sbin"));
    let found: Vec<_> = all.iter().filter(is_program).map(|path| path.display().to_string()).collect();
    let wanted = [
        "/usr/local/bin/outrigger",
        "/usr/local/bin/outrigger-proxy",
        "/usr/sbin/ip6tables-nft",
        "/usr/sbin/ip6tables-nft-restore",
        "/usr/sbin/iptables-nft",
        "/usr/sbin/iptables-nft-restore",
        "/usr/sbin/nft",
        "/usr/sbin/xtables-nft-multi",
    ];
    assert_eq!(found, wanted, "and no shell");
    for path in &all {
        let mode = fs::metadata(image.join(path.strip_prefix("/").expect("absolute")))
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7022, 0, "{} is writable by others or runs as its owner: {mode:o}", path.display());
    }
    for needed in [
        "/etc/passwd",
        "/etc/nsswitch.conf",
        "/usr/share/doc/outrigger/copyright",
        "/usr/share/doc/nftables/copyright",
        "/usr/share/doc/iptables/copyright",
    ] {
        assert!(all.contains(Path::new(needed)), "{needed} is missing");
    }
    runs(scenario, &image);
}

/// From the tree, as the user that the image names and as root.
fn runs(scenario: &str, image: &Path) {
    if fs::metadata("/proc/self").expect("it is there").uid() != 0 {
        return skip(scenario, "chroot needs root;").unwrap_or_default();
    }
    let inside = |user: &str, args: &[&str]| {
        run(Command::new("chroot")
            .arg(format!("--userspec={user}"))
            .arg(image)
            .args(args)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))
    };
    let version = env!("CARGO_PKG_VERSION");
    for name in ["outrigger", "outrigger-proxy"] {
        assert_eq!(
            inside("2112:2112", &[&format!("/usr/local/bin/{name}"), "--version"]).trim(),
            format!("{name} {version}")
        );
    }
    assert!(inside("2112:2112", &["/usr/local/bin/outrigger", "crds"]).contains("trafficpolicies.outrigger.dev"));
    assert!(inside("0:0", &["/usr/sbin/nft", "--version"]).contains("nftables"));
    captures(scenario, image);
}

/// The rules of each backend, with all that they can have, in a network of their own and with the one capability that pods give.
fn captures(scenario: &str, image: &Path) {
    let (Some(unshare), Some(setpriv)) = (program(scenario, "unshare"), program(scenario, "setpriv")) else { return };
    let privileges = ["--no-new-privs", "--bounding-set", "-all,+net_admin,+sys_chroot", "--inh-caps", "-all"];
    for (backend, mode) in [("nftables", "redirect"), ("iptables", "redirect"), ("iptables", "tproxy")] {
        let said = run(Command::new(&unshare)
            .arg("--net")
            .arg(&setpriv)
            .args(privileges)
            .arg("chroot")
            .arg(image)
            .args(["/usr/local/bin/outrigger-proxy", "redirect", "install", "--backend", backend])
            .args([
                "--inbound-mode",
                mode,
                "--ip-families",
                "both",
                "--skip-uids",
                "7",
                "--skip-outbound-ports",
                "25,8000-8010",
            ])
            .args(["--skip-outbound-cidrs", "10.9.0.0/16,fd00::/8", "--skip-inbound-ports", "22"])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"));
        assert!(said.contains(if backend == "iptables" { "iptables-nft-restore" } else { "nft (" }), "{said}");
    }
}

/// Two small programs in place of ours.
fn small(dir: &Path) -> PathBuf {
    let programs = dir.join("programs");
    fs::create_dir(&programs).expect("writable");
    for name in ["outrigger", "outrigger-proxy"] {
        fs::copy("/bin/true", programs.join(name)).expect("there is one");
    }
    programs
}

fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().expect("a digest").strip_prefix("sha256:").expect("of SHA-256");
    let file = layout.join("blobs/sha256").join(digest);
    assert_eq!(descriptor["size"].as_u64(), Some(fs::metadata(&file).expect("the blob is there").len()));
    let said = run(Command::new("sha256sum").arg(&file));
    assert!(said.starts_with(digest), "{said}");
    file
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).expect("it is there")).expect("JSON")
}

#[test]
fn the_build_without_an_engine_makes_an_oci_layout_and_the_same_again() {
    let scenario = "the_build_without_an_engine";
    let (Some(_), Some(_)) = (program(scenario, "nft"), program(scenario, "iptables-nft-restore")) else { return };
    let dir = TempDir::new().expect("a directory");
    let programs = small(dir.path());
    let build = |name: &str| {
        let out = dir.path().join(name);
        run(Command::new(root().join("image/build")).arg("--programs").arg(&programs).arg("--out").arg(&out));
        out
    };
    let layout = build("one");
    assert_eq!(json(&layout.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
    let index = json(&layout.join("index.json"));
    let manifest = json(&blob(&layout, &index["manifests"][0]));
    assert_eq!(manifest["mediaType"], index["manifests"][0]["mediaType"]);
    let config = json(&blob(&layout, &manifest["config"]));
    assert_eq!(config["config"]["User"], "2112:2112");
    assert_eq!(config["config"]["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    let layer = blob(&layout, &manifest["layers"][0]);
    let tar = dir.path().join("layer.tar");
    fs::write(&tar, run_bytes(Command::new("gzip").arg("-dc").arg(&layer))).expect("writable");
    let sum = run(Command::new("sha256sum").arg(&tar));
    let diff = config["rootfs"]["diff_ids"][0].as_str().expect("a digest");
    assert!(diff.strip_prefix("sha256:").is_some_and(|digest| sum.starts_with(digest)), "{diff} {sum}");
    let listed = run(Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(&tar));
    assert!(listed.lines().all(|line| line.split_whitespace().nth(1) == Some("0/0")), "root owns all of it: {listed}");
    // Byte for byte, also over the one that is there.
    let again = build("two");
    assert_eq!(json(&again.join("index.json")), index);
    build("two");
    // It removes nothing that it did not make.
    let mut other = Command::new(root().join("image/build"));
    let refused = other.arg("--programs").arg(&programs).arg("--out").arg(&programs).output().expect("it runs");
    assert!(!refused.status.success() && programs.join("outrigger").exists());
}

fn run_bytes(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("it runs");
    assert!(output.status.success());
    output.stdout
}

#[test]
fn the_dockerfile_says_what_the_other_build_says() {
    let text = |name: &str| fs::read_to_string(root().join(name)).expect("it is there");
    let (dockerfile, build) = (text("Dockerfile"), text("image/build"));
    assert!(dockerfile.contains("image/rootfs target/release /rootfs") && build.contains("image/rootfs"));
    for (docker, oci) in [
        ("ENTRYPOINT [\"/usr/local/bin/outrigger-proxy\"]", "\"Entrypoint\":[\"/usr/local/bin/outrigger-proxy\"]"),
        ("USER 2112:2112", "\"User\":\"2112:2112\""),
        ("ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin", "\"PATH=/usr/local/bin:/usr/sbin:/usr/bin\""),
        ("org.opencontainers.image.licenses=\"Apache-2.0\"", "\"org.opencontainers.image.licenses\":\"Apache-2.0\""),
    ] {
        assert!(dockerfile.contains(docker), "Dockerfile: {docker}");
        assert!(build.contains(oci), "image/build: {oci}");
    }
    let last = dockerfile.rsplit("\nFROM ").next().expect("a stage");
    assert!(last.starts_with("scratch\n"), "nothing but what image/rootfs copies");
    let manifest = text("Cargo.toml");
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")).expect("a version");
    let rust = rust.trim_end_matches('"');
    assert!(dockerfile.contains(&format!("FROM rust:{rust}-slim-bookworm AS build")), "the toolchain is {rust}");
}

/// What `.dockerignore` lets in is enough for cargo, and for every file that a source includes.
#[test]
fn the_build_context_has_all_that_the_build_reads() {
    let ignore = fs::read_to_string(root().join(".dockerignore")).expect("it is there");
    let kept: Vec<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let context = TempDir::new().expect("a directory");
    for name in &kept {
        let to = context.path().join(name);
        fs::create_dir_all(to.parent().expect("a parent")).expect("writable");
        run(Command::new("cp").args(["-r", "--no-dereference"]).arg(root().join(name)).arg(&to));
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    run(cargo
        .args(["metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"])
        .current_dir(context.path()));
    let mut sources = BTreeSet::new();
    for package in ["config", "control-plane", "proxy"] {
        files(context.path(), &context.path().join(package), &mut sources);
    }
    for source in sources.iter().filter(|path| path.extension().is_some_and(|e| e == "rs")) {
        let file = context.path().join(source.strip_prefix("/").expect("absolute"));
        let text = fs::read_to_string(&file).expect("UTF-8");
        // Tests of a file come last in it, and read more.
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for included in text.split("include_str!(\"").skip(1).chain(text.split("include_bytes!(\"").skip(1)) {
            let name = included.split('"').next().expect("a name");
            let target = file.parent().expect("a parent").join(name);
            assert!(
                target.is_file() || source.components().any(|part| part.as_os_str() == "tests"),
                "{}: {name}",
                source.display()
            );
        }
    }
}

/// `image/pgo` as far as it goes without building: the whole takes a quarter of an hour.
#[test]
fn a_build_by_profile_says_what_it_takes_and_what_is_missing() {
    let pgo = |args: &[&str], path: Option<&Path>| {
        let mut command = Command::new(root().join("image/pgo"));
        command.args(args);
        if let Some(first) = path {
            let rest = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{rest}", first.display()));
        }
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    let (status, help) = pgo(&["--help"], None);
    assert_eq!(status, Some(0));
    for flag in ["--out DIR", "--seconds N", "--profile FILE"] {
        assert!(help.contains(flag), "{flag}: {help}");
    }
    for (args, wrong) in [
        (&["--fast"][..], "there is no --fast"),
        (&["--out"], "--out needs a value"),
        (&["--seconds", "1.5"], "a whole number from 1"),
        (&["--profile", "/nowhere/merged"], "no profile at /nowhere/merged"),
    ] {
        let (status, said) = pgo(args, None);
        assert!(status == Some(2) && said.contains(wrong), "{args:?}: {said}");
    }
    // A compiler whose profiles nothing here can read.
    let dir = TempDir::new().expect("a directory");
    let rustc = dir.path().join("rustc");
    fs::write(
        &rustc,
        "#!/bin/sh\necho rustc 9.99.0\necho host: x86_64-unknown-linux-gnu\necho LLVM version: 999.1.2\n",
    )
    .expect("writable");
    fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).expect("ours");
    let (status, said) = pgo(&[], Some(dir.path()));
    assert!(
        status == Some(1) && said.contains("rustup component add llvm-tools") && said.contains("llvm-999"),
        "{said}"
    );
}
