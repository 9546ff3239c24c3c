//! The binary under test: built once per test process, by the cargo that runs the tests.
//!
//! `CARGO_BIN_EXE_*` exists only for a package's own binaries, and whatever lies in the target directory may
//! be older than the sources; so cargo is asked, which costs a moment when nothing has changed.
//! `OUTRIGGER_PROXY` and `OUTRIGGER` name other binaries instead (CI tests the release build that way).

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Path of an up-to-date `outrigger-proxy`.
pub fn proxy() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let build = || build("outrigger-proxy", "outrigger-proxy");
    BINARY.get_or_init(|| env::var_os("OUTRIGGER_PROXY").map_or_else(build, PathBuf::from))
}

/// Path of an up-to-date `outrigger`.
pub fn outrigger() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let build = || build("outrigger-control-plane", "outrigger");
    BINARY.get_or_init(|| env::var_os("OUTRIGGER").map_or_else(build, PathBuf::from))
}

/// The directory of the cargo profile that these tests were built in (`target/debug`).
#[must_use]
pub fn profile_dir() -> PathBuf {
    let exe = env::current_exe().expect("a running test has a path");
    let deps = exe.parent().expect("the test is in a directory");
    deps.parent().expect("deps/ is in the profile's directory").to_owned()
}

/// The target directory, where `setup.sh` puts the foreign peers.
#[must_use]
pub fn target_dir() -> PathBuf {
    profile_dir().parent().expect("the profile's directory is in the target directory").to_owned()
}

fn build(package: &str, program: &str) -> PathBuf {
    let dir = profile_dir();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "-p", package, "--bins"]).arg("--target-dir").arg(target_dir());
    match dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some("release") => drop(cargo.arg("--release")),
        Some(profile) => drop(cargo.args(["--profile", profile])),
    }
    let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
    assert!(status.success(), "{package} does not build");
    dir.join(program)
}
