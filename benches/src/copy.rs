//! The floor: a loop that copies bytes and understands none of them.
//!
//! No proxy that carries bytes through user space with ordinary sockets does less than this, so what a peer
//! costs above it is what its understanding costs. Each connection is tied to one origin connection; HTTP/2
//! clients cannot be served by it before an HTTP/1 origin.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};

/// Carry connections from `listen` to `origins` in turn, until the process is ended.
pub fn run(listen: SocketAddr, origins: &[SocketAddr]) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("binding {listen}"))?;
        let mut turn = origins.iter().copied().cycle();
        loop {
            let (client, _) = listener.accept().await?;
            let origin = turn.next().context("no origin was given")?;
            tokio::spawn(carry(client, origin));
        }
    })
}

/// One connection; an error on either side ends both, and the client sees it.
async fn carry(mut client: TcpStream, origin: SocketAddr) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut upstream = TcpStream::connect(origin).await?;
    upstream.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await.map(|_| ())
}
