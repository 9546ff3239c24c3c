//! Foreign programs: found once, skipped aloud when missing.
//!
//! A missing peer skips its scenario with a line that says what to do. With `CI` set it fails instead:
//! a scenario that silently never runs proves nothing.

use std::{
    env,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::{LONG, binary::target_dir, eventually, ports::free_ports, process};

/// A program on the path.
#[must_use]
pub fn program(scenario: &str, name: &str) -> Option<PathBuf> {
    let mut dirs: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    dirs.push("/usr/sbin".into());
    let found = dirs.into_iter().map(|dir| dir.join(name)).find(|file| file.is_file());
    found.or_else(|| skip(scenario, &format!("{name} missing")))
}

/// The Python of the venv, which has grpcio, websockets, h2, hyperframe, httpx and prometheus-client.
#[must_use]
pub fn python(scenario: &str) -> Option<PathBuf> {
    let python = target_dir().join("test-venv/bin/python");
    let ready = python.is_file() && target_dir().join("test-venv/.requirements").is_file();
    if ready { Some(python) } else { skip(scenario, "the Python peers (grpcio, websockets, h2, ...) missing") }
}

/// Node with the packages of `peers/package.json`.
#[must_use]
pub fn node(scenario: &str) -> Option<PathBuf> {
    let ready = target_dir().join("test-node/node_modules/ws").is_dir();
    if ready { program(scenario, "node") } else { skip(scenario, "the Node peers (ws) missing") }
}

/// h2spec.
#[must_use]
pub fn h2spec(scenario: &str) -> Option<PathBuf> {
    let file = target_dir().join("test-tools/h2spec");
    if file.is_file() { Some(file) } else { skip(scenario, "h2spec missing") }
}

/// Says that a scenario is skipped, or fails where nothing may be.
pub fn skip<T>(scenario: &str, why: &str) -> Option<T> {
    assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "{scenario}: {why}, run tests/setup.sh");
    // To the terminal, not to the captured output: the point is that people see it.
    let line = format!("skipped: {scenario}: {why}, run tests/setup.sh\n");
    if let Err(error) = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()) {
        panic!("{error}: {line}");
    }
    None
}

/// A file of `tests/peers`.
#[must_use]
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

/// Runs a program of `tests/peers` to its end, which it has to reach within `PATIENCE`.
#[track_caller]
pub fn run(interpreter: &Path, name: &str, args: &[&str]) -> Output {
    let mut command = command(interpreter, name, args);
    process::finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()), PATIENCE)
}

/// Time limit of foreign programs: far above what any scenario takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs it and returns what it printed; a failure of the program is a failure of the test.
#[must_use]
#[track_caller]
pub fn check(interpreter: &Path, name: &str, args: &[&str]) -> String {
    let output = run(interpreter, name, args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name} {args:?}:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn command(interpreter: &Path, name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(script(name)).args(args);
    command
        .env("PYTHONPATH", target_dir().join("test-venv"))
        .env("NODE_PATH", target_dir().join("test-node/node_modules"));
    command.env("PYTHONUNBUFFERED", "1").env("GRPC_VERBOSITY", "NONE").env_remove("http_proxy");
    command
}

/// A foreign server: a script that prints its port as its first line. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    lines: Receiver<String>,
}

impl Server {
    /// Starts it and waits for its port.
    #[must_use]
    #[track_caller]
    pub fn start(interpreter: &Path, name: &str, args: &[&str]) -> Self {
        let mut child = command(interpreter, name, args).stdout(Stdio::piped()).spawn().expect("the interpreter runs");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        // More lines than any scenario reads; a server that prints more waits.
        let (sender, lines) = mpsc::sync_channel(1000);
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let line = lines.recv_timeout(PATIENCE).unwrap_or_default();
        let port: u16 = line.trim().parse().unwrap_or_else(|_| panic!("{name} did not print a port but {line:?}"));
        Self { child, address: ([127, 0, 0, 1], port).into(), lines }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next line that it prints.
    #[must_use]
    #[track_caller]
    pub fn line(&self) -> String {
        self.lines.recv_timeout(LONG).expect("the server prints a line")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An nginx of one process. Killed when dropped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    address: SocketAddr,
    _dir: TempDir,
}

impl Nginx {
    /// Starts it with the `server` block that `block` makes of its directory and the address to listen on.
    #[must_use]
    #[track_caller]
    pub fn start(scenario: &str, block: impl FnOnce(&Path, SocketAddr) -> String) -> Option<Self> {
        let nginx = program(scenario, "nginx")?;
        let dir = TempDir::new().expect("a temporary directory");
        let [address] = free_ports();
        let root = dir.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {root}/{kind};\n"))
            .concat();
        let text = format!(
            "daemon off;\nmaster_process off;\npid {root}/pid;\nerror_log {root}/error.log;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}{}\n}}\n",
            block(dir.path(), address)
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, text).expect("writable");
        let child = Command::new(nginx).arg("-c").arg(file).stderr(Stdio::null()).spawn().expect("nginx starts");
        let nginx = Self { child, address, _dir: dir };
        eventually("nginx listens", LONG, || TcpStream::connect(address).ok());
        Some(nginx)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
