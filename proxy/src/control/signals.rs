//! The signals that the process understands.

use std::io;

use tokio::signal::unix::{self, SignalKind, signal};

/// Receives signals from its creation on; what came before acts as the system has it.
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT, by number: end.
    End(u8),
}

impl Signals {
    /// Takes the signals over.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal of any kind.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::End(SIGTERM),
            _ = self.interrupt.recv() => Signal::End(SIGINT),
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    /// The number of the next signal that asks for the end.
    pub async fn end(&mut self) -> u8 {
        loop {
            if let Signal::End(number) = self.next().await {
                return number;
            }
        }
    }
}

const SIGTERM: u8 = 15;
const SIGINT: u8 = 2;
