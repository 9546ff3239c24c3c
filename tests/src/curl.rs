//! curl as a client that shares no code with the proxy: its own TLS, its own HTTP/2.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{message::Fields, peers, pki::Files};

/// How curl calls.
#[derive(Debug, Clone)]
pub struct Curl {
    program: PathBuf,
    args: Vec<String>,
}

/// What curl has to say about one request.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; 0 is success.
    pub code: i32,
    /// Status, 0 without an answer.
    pub status: u16,
    /// `1.1` or `2`.
    pub version: String,
    /// Header fields of the answer.
    pub headers: Fields,
    /// The body.
    pub body: String,
    /// Its words about an error.
    pub error: String,
}

impl Curl {
    /// Finds it, or skips the scenario.
    #[must_use]
    pub fn find(scenario: &str) -> Option<Self> {
        let program = peers::program(scenario, "curl")?;
        // A mesh certificate names an identity and no host, so a client that only knows hosts cannot check it.
        let args = ["-sS", "-k", "-i", "--noproxy", "*", "--max-time", "20"].map(str::to_owned).to_vec();
        Some(Self { program, args })
    }

    /// With a client certificate.
    #[must_use]
    pub fn identity(&self, files: &Files) -> Self {
        let path = |name| files.path(name).display().to_string();
        self.with(&["--cert", &path("tls.crt"), "--key", &path("tls.key")])
    }

    /// With further arguments.
    #[must_use]
    pub fn with(&self, args: &[&str]) -> Self {
        let mut curl = self.clone();
        curl.args.extend(args.iter().map(|&a| a.to_owned()));
        curl
    }

    /// `GET https://ADDRESS/PATH`.
    #[must_use]
    #[track_caller]
    pub fn https(&self, to: SocketAddr, path: &str) -> Outcome {
        self.url(&format!("https://{to}{path}"))
    }

    /// `GET http://ADDRESS/PATH`.
    #[must_use]
    #[track_caller]
    pub fn http(&self, to: SocketAddr, path: &str) -> Outcome {
        self.url(&format!("http://{to}{path}"))
    }

    /// `GET URL`.
    #[must_use]
    #[track_caller]
    pub fn url(&self, url: &str) -> Outcome {
        let mut command = Command::new(&self.program);
        let output = command.args(&self.args).arg(url).stdin(Stdio::null()).output().expect("curl runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let mut start = lines.next().unwrap_or_default().split(' ');
        let version = start.next().unwrap_or_default().trim_start_matches("HTTP/").to_owned();
        let status = start.next().and_then(|s| s.parse().ok()).unwrap_or(0);
        let fields = lines.filter_map(|line| line.split_once(':'));
        Outcome {
            code: output.status.code().unwrap_or(-1),
            status,
            version,
            headers: fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect(),
            body: body.to_owned(),
            error: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Outcome {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::message::field(&self.headers, name)
    }
}
