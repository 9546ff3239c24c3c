//! `wait`: until the proxy of this pod is ready.
//!
//! On clusters without native sidecars the proxy's container has this as its `postStart` hook: Kubernetes starts containers in their order, the
//! next one when the hook of the one before it has ended. A hook that ends with an error restarts the container, so the bound is long.
//! Plain blocking sockets: it runs for a moment, beside a proxy that starts.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    sync::mpsc,
    time::Duration,
};

use tokio::time::Instant;

use super::{DONE, FOUND_FAULTS, say};

/// Arguments of `wait`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct WaitArgs {
    /// Where the proxy's admin port listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9990")]
    admin: SocketAddr,
    /// When to give up
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = super::parse_duration)]
    timeout: Duration,
}

const EXAMPLES: &str = "Examples:
  outrigger-proxy wait && ./app          start an app when its proxy is ready
  outrigger-proxy wait --timeout 5m

Exit codes: 0 the proxy is ready, 1 it was not in time, 2 wrong usage.";

/// Between two questions: a fraction of what a proxy takes to start.
const PAUSE: Duration = Duration::from_millis(100);
/// For one question.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of an answer: what it lacks is in the first lines.
const MOST: u64 = 4096;

pub(super) fn run(args: &WaitArgs) -> ExitCode {
    let end = Instant::now() + args.timeout;
    // Nothing is ever sent: it is a pause that needs no runtime.
    let (_never, pause) = mpsc::sync_channel::<()>(1);
    loop {
        let missing = match ask(args.admin) {
            Ok(answer) if is_success(&answer) => return ExitCode::from(DONE),
            Ok(answer) => answer.rsplit("\r\n\r\n").next().unwrap_or_default().trim().to_owned(),
            Err(error) => error.to_string(),
        };
        if Instant::now() + PAUSE >= end {
            let (admin, timeout) = (args.admin, args.timeout);
            say(&mut io::stderr(), &format!("error: the proxy at {admin} is not ready after {timeout:?}: {missing}\n"));
            return ExitCode::from(FOUND_FAULTS);
        }
        let _timeout = pause.recv_timeout(PAUSE);
    }
}

fn ask(admin: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // In one piece: an answer that comes before the rest of the question could be lost.
    let request = format!("GET /readyz?verbose HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn is_success(answer: &str) -> bool {
    answer.split(' ').nth(1) == Some("200")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn serve(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let _read = stream.read(&mut [0; 1024]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    #[test]
    fn it_asks_until_the_proxy_is_ready() {
        let admin = serve(&["HTTP/1.1 503 Service Unavailable\r\n\r\nno identity\n", "HTTP/1.1 200 OK\r\n\r\nok"]);
        let code = run(&WaitArgs { admin, timeout: Duration::from_secs(30) });
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(DONE)));
    }

    #[test]
    fn it_gives_up_in_time() {
        let [nobody] = [TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()];
        let code = run(&WaitArgs { admin: nobody, timeout: Duration::from_millis(1) });
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(FOUND_FAULTS)));
    }
}
