//! The real program, as people start it: output, exit codes, signals, reload.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Duration,
};

use tempfile::TempDir;

/// Far more than anything here takes; only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(30);

fn proxy(args: &[&str]) -> Output {
    command(args).output().expect("the program runs")
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger-proxy"));
    command.args(args).stdin(Stdio::null()).env_remove("RUST_LOG").env_remove("OUTRIGGER_DNS_SERVERS");
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A `run` whose lines on stderr can be waited for. Killed when dropped.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(args: &[&str]) -> Self {
        let mut child = command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
        let (sender, lines) = sync_channel(10_000);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("proxy: {line}");
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The rest of the next line that has `text`.
    fn wait(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(DEADLINE).unwrap_or_else(|e| panic!("no line has {text:?}: {e}"));
            if let Some((_, rest)) = line.split_once(text) {
                return rest.to_owned();
            }
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.expect("kill runs").success());
    }

    fn exit_code(mut self) -> Option<i32> {
        // The pipe closes with the process; no line is left to come.
        while self.lines.recv_timeout(DEADLINE).is_ok() {}
        self.child.wait().expect("the process can be waited for").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn document(listeners: &[&str]) -> String {
    let mut text = "apiVersion: outrigger.dev/v1alpha1
kind: Proxy
metadata: { name: test }
spec:
  workers: 1
  admin: { address: 127.0.0.1:0 }
  listeners:
"
    .to_owned();
    for name in listeners {
        text.push_str(&format!("    - {{ name: {name}, address: 127.0.0.1:0, direction: outbound }}\n"));
    }
    text
}

fn write(dir: &TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    fs::write(&path, text).expect("the file can be written");
    name_of(&path)
}

fn name_of(path: &Path) -> String {
    path.display().to_string()
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("there is room for a directory")
}

#[test]
fn help_has_examples_and_the_version_is_told() {
    for args in
        [&["--help"][..], &["run", "--help"], &["validate", "--help"], &["explain", "--help"], &["demo", "--help"]]
    {
        let output = proxy(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(stdout(&output).contains("Examples:\n  outrigger-proxy "), "{args:?}: {}", stdout(&output));
    }
    let output = proxy(&["--version"]);
    assert_eq!(stdout(&output), format!("outrigger-proxy {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_2_and_says_what_would_be_right() {
    for (args, hint) in [
        (&[][..], "Usage"),
        (&["valdate"], "validate"),
        (&["run"], "--listen ADDR --to ADDR"),
        (&["run", "--listen", ":8080"], "--to"),
        (&["run", "--listen", "nowhere", "--to", ":1"], ":8080"),
        (&["run", "--listen", ":0", "--to", "http://x/"], "localhost:3000"),
        (&["validate"], "<PATH>"),
        (&["demo", "--for", "soon"], "10s"),
    ] {
        let output = proxy(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(hint), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn validate_prints_every_fault_on_a_line_of_its_own() {
    let dir = directory();
    let good = write(&dir, "good.yaml", &document(&["a"]));
    let output = proxy(&["validate", &good]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "OK: 1 document\n".into()));

    let bad = write(&dir, "bad.yaml", "kind: Nothing\n---\nkind: [\n");
    let missing = name_of(&dir.path().join("missing.yaml"));
    let output = proxy(&["validate", &bad, &missing]);
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<_> = stdout(&output).lines().map(str::to_owned).collect();
    for line in &lines {
        let mut parts = line.splitn(4, ':').skip(1);
        assert!(parts.next().is_some_and(|l| l.parse::<u32>().is_ok()), "{line}");
        assert!(parts.next().is_some_and(|c| c.parse::<u32>().is_ok()), "{line}");
        assert!(parts.next().is_some_and(|m| m.starts_with(' ')), "{line}");
    }
    assert!(lines.iter().any(|l| l.starts_with(&bad)), "{lines:?}");
    assert!(lines.iter().any(|l| l.starts_with(&format!("{missing}:1:1: "))), "{lines:?}");
}

#[test]
fn a_faulty_configuration_does_not_start() {
    let dir = directory();
    let bad = write(&dir, "bad.yaml", &format!("{}  listener: []\n", document(&["a"])));
    let output = proxy(&["run", "--config", &bad]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("{bad}:9:3: ")), "{}", stderr(&output));
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    for args in [["--listen", &address, "--admin", "127.0.0.1:0"], ["--listen", "127.0.0.1:0", "--admin", &address]] {
        let output = proxy(&[&["run", "--to", "127.0.0.1:9"], &args[..]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(&address), "{}", stderr(&output));
    }
}

#[test]
fn explain_tells_text_and_json() {
    let dir = directory();
    let file = write(&dir, "p.yaml", &document(&["out"]));
    let text = proxy(&["explain", "--config", &file, "--listener", "out", "http://nobody/"]);
    assert_eq!(text.status.code(), Some(0), "{}", stderr(&text));
    assert!(stdout(&text).contains("destination_not_found"), "{}", stdout(&text));
    let json =
        proxy(&["explain", "--config", &file, "--listener", "out", "-H", "x: 1", "-o", "json", "http://nobody/"]);
    assert!(serde_json::from_str::<serde_json::Value>(&stdout(&json)).is_ok(), "{}", stdout(&json));
    let wrong = proxy(&["explain", "--config", &file, "--listener", "in", "http://nobody/"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("out"), "{}", stderr(&wrong));
}

#[test]
fn it_says_where_it_listens_and_ends_when_told() {
    for (signal, args) in [("TERM", ["127.0.0.1:0", "localhost:9"]), ("INT", ["localhost:0", ":9"])] {
        let running = Running::start(&["run", "--listen", args[0], "--to", args[1], "--admin", "127.0.0.1:0"]);
        let address: std::net::SocketAddr =
            running.wait("listener name=inbound address=").parse().expect("an address ends the line");
        assert_ne!(address.port(), 0);
        let admin: std::net::SocketAddr = running.wait("admin listening address=").parse().expect("an address");
        assert_ne!(admin.port(), 0);
        running.wait("ready");
        running.signal(signal);
        running.wait("draining");
        assert_eq!(running.exit_code(), Some(0));
    }
}

#[test]
fn a_changed_file_is_taken_over_and_a_faulty_one_changes_nothing() {
    let dir = directory();
    let file = write(&dir, "p.yaml", &document(&["a"]));
    let running = Running::start(&["run", "--config", &name_of(dir.path())]);
    running.wait("listener name=a ");
    running.wait("ready");
    write(&dir, "p.yaml", &document(&["a", "b"]));
    running.wait("listener name=b ");
    running.wait("configuration applied version=2");
    write(&dir, "p.yaml", "kind: Nonsense\n");
    running.wait(&format!("{file}:1:"));
    running.wait("configuration rejected");
    write(&dir, "p.yaml", &document(&["a", "b", "c"]));
    running.wait("listener name=c ");
    running.wait("configuration applied version=3");
    running.signal("HUP");
    running.wait("configuration applied version=4");
    running.signal("TERM");
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn the_demo_runs_by_itself_for_as_long_as_asked() {
    let output = proxy(&["demo", "--for", "3s", "--admin", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    for part in ["/metrics", "Summary", "steady", "slow", "flaky"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// One request to the admin port, and the whole answer.
fn ask(admin: &str, request_line: &str) -> String {
    let mut stream = TcpStream::connect(admin).expect("the admin port accepts");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time-out can be set");
    let request = format!("{request_line} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the admin port reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the admin port answers");
    answer
}

#[test]
fn the_admin_port_drains_and_shuts_down() {
    let args = ["run", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:9", "--admin", "127.0.0.1:0"];
    let running = Running::start(&args);
    let admin = running.wait("admin listening address=");
    running.wait("ready");
    let explained = ask(&admin, "GET /explain?url=/");
    assert!(explained.starts_with("HTTP/1.1 200") && explained.contains("127.0.0.1:9"), "{explained}");
    assert!(ask(&admin, "GET /readyz").starts_with("HTTP/1.1 200"));
    assert!(ask(&admin, "POST /drain").starts_with("HTTP/1.1 2"));
    assert!(ask(&admin, "GET /readyz").starts_with("HTTP/1.1 503"));
    assert!(ask(&admin, "GET /livez").starts_with("HTTP/1.1 200"));
    running.signal("TERM");
    assert_eq!(running.exit_code(), Some(0));

    let running = Running::start(&args);
    let admin = running.wait("admin listening address=");
    running.wait("ready");
    assert!(ask(&admin, "POST /shutdown").starts_with("HTTP/1.1 2"));
    assert_eq!(running.exit_code(), Some(0));
}
