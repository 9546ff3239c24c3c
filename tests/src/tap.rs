//! Whoever looks at requests as they pass: `GET /tap` of an admin port, and the command line's output.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{LONG, binary, eventually};

/// An open tap. It ends when the value is dropped.
#[derive(Debug)]
pub struct Tap {
    stream: TcpStream,
    text: Arc<Mutex<String>>,
}

impl Tap {
    /// Opens one with this query, and waits until it is open.
    #[must_use]
    #[track_caller]
    pub fn open(admin: SocketAddr, query: &str) -> Self {
        let stream = Self::ask(admin, query);
        let (from, text) = (stream.try_clone().expect("a descriptor"), Arc::new(Mutex::new(String::new())));
        let into = Arc::clone(&text);
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                into.lock().unwrap_or_else(PoisonError::into_inner).push_str(&format!("{line}\n"));
            }
        });
        let tap = Self { stream, text };
        tap.wait("the tap is open", |e| e["event"] == "tap");
        tap
    }

    /// Asks for one and reads nothing.
    #[must_use]
    #[track_caller]
    pub fn ask(admin: SocketAddr, query: &str) -> TcpStream {
        let mut stream = TcpStream::connect(admin).expect("the admin port");
        stream
            .write_all(format!("GET /tap?{query} HTTP/1.1\r\nHost: {admin}\r\n\r\n").as_bytes())
            .expect("it is taken");
        stream
    }

    /// All that came, head and chunks.
    #[must_use]
    pub fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The events so far. A line never stands in two chunks.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let json = |line: &str| line.starts_with('{').then(|| serde_json::from_str(line).ok())?;
        self.text().lines().filter_map(json).collect()
    }

    /// Waits for an event.
    #[track_caller]
    pub fn wait(&self, what: &str, want: impl Fn(&Value) -> bool) -> Value {
        eventually(what, LONG, || self.events().into_iter().find(&want))
    }

    /// Waits for the end of a request whose path begins so, and returns all its events.
    #[track_caller]
    pub fn request(&self, path: &str) -> Vec<Value> {
        eventually(&format!("{path} is shown to its end: {}", self.text()), LONG, || {
            let events = self.events();
            let begun = |e: &&Value| e["path"].as_str().is_some_and(|p| p.starts_with(path));
            let id = events.iter().find(begun)?["id"].clone();
            let own: Vec<_> = events.into_iter().filter(|e| e["id"] == id).collect();
            own.iter().any(|e| e["event"] == "end").then_some(own)
        })
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Both).ok();
    }
}

/// Runs `outrigger` to its end.
#[track_caller]
pub fn outrigger(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary::outrigger());
    command.args(args).envs(environment.iter().copied()).stdin(Stdio::null()).output().expect("it runs")
}

/// An `outrigger` that goes on. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    out: Arc<Mutex<Vec<String>>>,
    errors: Arc<Mutex<Vec<String>>>,
}

impl Running {
    /// Starts it.
    #[must_use]
    #[track_caller]
    pub fn start(args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary::outrigger());
        command.args(args).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let (out, errors) = (Arc::default(), Arc::default());
        collect(child.stdout.take().expect("a pipe"), &out);
        collect(child.stderr.take().expect("a pipe"), &errors);
        Self { child, out, errors }
    }

    /// Lines of stdout so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lines of stderr so far.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line of stdout.
    #[track_caller]
    pub fn wait(&self, what: &str, want: impl Fn(&str) -> bool) -> String {
        let found = || self.lines().into_iter().find(|line| want(line));
        let deadline = tokio::time::Instant::now() + LONG;
        eventually(what, LONG + Duration::from_secs(1), || {
            let late = tokio::time::Instant::now() > deadline;
            assert!(!late, "{what}: {:#?} {:#?}", self.lines(), self.errors());
            found()
        })
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        eventually("it ends", LONG, || self.child.try_wait().expect("a child"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn collect(from: impl std::io::Read + Send + 'static, into: &Arc<Mutex<Vec<String>>>) {
    let into = Arc::clone(into);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            into.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
}
