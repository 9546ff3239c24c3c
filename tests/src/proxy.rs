//! One `outrigger-proxy run` of the real binary.
//!
//! Its addresses are all port 0; they are learnt from the lines that it writes to stderr
//! (`listener name=NAME address=ADDR`, `admin listening address=ADDR`). It is killed when the value is
//! dropped, and what it wrote is shown if the test is failing.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{LONG, Metrics, Reply, binary, eventually, process, wire};

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    dir: TempDir,
    output: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts with this YAML as its one file, and waits until it is ready.
    #[must_use]
    #[track_caller]
    pub fn start(yaml: &str) -> Self {
        Self::start_with(yaml, &[])
    }

    /// The same with these environment variables.
    #[must_use]
    #[track_caller]
    pub fn start_with(yaml: &str, environment: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let file = dir.path().join("proxy.yaml");
        write(&file, yaml, dir.path());
        let mut command = Command::new(binary::proxy());
        command.args(["run", "--config"]).arg(&file).envs(environment.iter().copied());
        let proxy = Self::spawn(command, dir);
        proxy.wait_ready();
        proxy
    }

    /// Starts any command line, without waiting.
    #[must_use]
    #[track_caller]
    pub fn spawn_args(args: &[&str]) -> Self {
        let mut command = Command::new(binary::proxy());
        command.args(args);
        Self::spawn(command, TempDir::new().expect("a temporary directory"))
    }

    /// Starts any command that runs a proxy, without waiting.
    #[must_use]
    #[track_caller]
    pub fn spawn_command(command: Command) -> Self {
        Self::spawn(command, TempDir::new().expect("a temporary directory"))
    }

    /// The same as another user, without his privileges.
    #[must_use]
    #[track_caller]
    pub fn spawn_as(uid: u32, args: &[&str]) -> Self {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".into()]);
        command.arg(binary::proxy()).args(args);
        Self::spawn(command, TempDir::new().expect("a temporary directory"))
    }

    fn spawn(mut command: Command, dir: TempDir) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the proxy starts");
        let output = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take(), &output);
        collect(child.stderr.take(), &output);
        Self { child, dir, output }
    }

    /// Waits until `/readyz` says 200.
    #[track_caller]
    pub fn wait_ready(&self) {
        eventually("the proxy is ready", LONG, || {
            let admin = self.find_admin()?;
            std::net::TcpStream::connect(admin).ok()?;
            (wire::get(admin, "/readyz").status == 200).then_some(())
        });
    }

    /// Where the listener of this name listens.
    #[must_use]
    #[track_caller]
    pub fn address(&self, listener: &str) -> SocketAddr {
        eventually(&format!("listener {listener} is announced"), LONG, || {
            let find =
                |line: &String| (value(line, "name=")? == listener).then(|| value(line, "address=")?.parse().ok())?;
            self.output().iter().rev().find_map(find)
        })
    }

    /// Where `inbound` listens.
    #[must_use]
    #[track_caller]
    pub fn inbound(&self) -> SocketAddr {
        self.address("inbound")
    }

    /// Where `outbound` listens.
    #[must_use]
    #[track_caller]
    pub fn outbound(&self) -> SocketAddr {
        self.address("outbound")
    }

    /// Where the admin port listens.
    #[must_use]
    #[track_caller]
    pub fn admin(&self) -> SocketAddr {
        eventually("the admin address is announced", LONG, || self.find_admin())
    }

    fn find_admin(&self) -> Option<SocketAddr> {
        let find = |line: &String| line.contains("admin").then(|| value(line, "address=")?.parse().ok())?;
        self.output().iter().find_map(find)
    }

    /// `GET` from the admin port.
    #[must_use]
    #[track_caller]
    pub fn ask(&self, path: &str) -> Reply {
        wire::get(self.admin(), path)
    }

    /// Scrapes the metrics.
    #[must_use]
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.ask("/metrics").text())
    }

    /// Waits until a metric's sum satisfies `want`.
    #[track_caller]
    pub fn wait_metric(&self, name: &str, labels: &[(&str, &str)], want: impl Fn(f64) -> bool) {
        let mut last = 0.0;
        let text = format!("{name}{labels:?}");
        let deadline = tokio::time::Instant::now() + LONG;
        eventually(&text, LONG + Duration::from_secs(1), || {
            last = self.metrics().sum(name, labels);
            assert!(tokio::time::Instant::now() < deadline, "{text} stays at {last}");
            want(last).then_some(())
        });
    }

    /// The entries of the JSON access log so far.
    #[must_use]
    pub fn access_log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir().join("access.log")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for an access log entry that `want` accepts.
    #[track_caller]
    pub fn wait_log(&self, what: &str, want: impl Fn(&Value) -> bool) -> Value {
        eventually(what, LONG, || self.access_log().into_iter().find(&want))
    }

    /// The test's own directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its configuration file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.dir().join("proxy.yaml")
    }

    /// Writes the file anew, atomically, as an editor or a ConfigMap does.
    pub fn rewrite(&self, yaml: &str) {
        write(&self.file(), yaml, self.dir());
    }

    /// Writes the file anew and waits until the reload is counted as `result` (`success`, `failure`).
    #[track_caller]
    pub fn reload(&self, yaml: &str, accepted: bool) {
        let counts = |metrics: &Metrics| {
            let all = metrics.sum("config_reloads_total", &[]);
            let bad = metrics.sum("config_reloads_total", &[("result", "failure")]);
            if accepted { all - bad } else { bad }
        };
        let before = counts(&self.metrics());
        self.rewrite(yaml);
        eventually("the reload is counted", LONG, || (counts(&self.metrics()) > before).then_some(()));
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        process::signal(self.pid(), name);
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let status = eventually("the proxy exits", within, || self.child.try_wait().expect("a child"));
        // Each reader has the lines until the end of what it reads.
        eventually("its output is read", LONG, || (Arc::strong_count(&self.output) == 1).then_some(()));
        status
    }

    /// Whether it still runs.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// What it wrote so far, lines of stdout and stderr.
    #[must_use]
    pub fn output(&self) -> Vec<String> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            let output = self.output();
            eprintln!("--- the proxy wrote (last of {} lines):", output.len());
            for line in output.iter().rev().take(TAIL).rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// Lines shown of a failing proxy.
const TAIL: usize = 40;

fn write(file: &Path, yaml: &str, dir: &Path) {
    let text = yaml.replace("${DIR}", &dir.display().to_string());
    let draft = file.with_extension("draft");
    fs::write(&draft, text).expect("the directory is writable");
    fs::rename(&draft, file).expect("the directory is writable");
}

fn collect(from: Option<impl Read + Send + 'static>, into: &Arc<Mutex<Vec<String>>>) {
    let (from, into) = (from.expect("a pipe"), Arc::clone(into));
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            into.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
}

/// The value after `key` in a line of `key=value` words.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let word = line.split_whitespace().find_map(|word| word.strip_prefix(key))?;
    Some(word.trim_matches('"').trim_end_matches(','))
}
