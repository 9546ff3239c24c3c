//! Real sockets on the loopback, one thread, nothing that waits for time to pass.

mod foreign;
mod fresh;
mod gathered;
mod plain;
mod tls;

use std::{future::Future, io, rc::Rc};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime,
    task::{JoinHandle, LocalSet},
};

use super::Io;

/// Runs a test as a worker runs: one thread, tasks that need not be `Send`. A hang is a failure.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { tokio::time::timeout(std::time::Duration::from_secs(60), test).await };
    LocalSet::new().block_on(&runtime, bounded).expect("the test hangs")
}

/// Both ends of a connection.
async fn pair() -> (TcpStream, TcpStream) {
    pair_with(None).await
}

/// The same, with socket buffers of a size.
async fn pair_with(buffer: Option<u32>) -> (TcpStream, TcpStream) {
    let (near, far) = (TcpSocket::new_v4().unwrap(), TcpSocket::new_v4().unwrap());
    if let Some(size) = buffer {
        for socket in [&near, &far] {
            socket.set_send_buffer_size(size).unwrap();
            socket.set_recv_buffer_size(size).unwrap();
        }
    }
    far.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener: TcpListener = far.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(near.connect(address), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    tokio::task::spawn_local(task)
}

/// Reads to the end.
async fn read_all(io: &Io) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        all.reserve(16 * 1024);
        if io.read_buf(&mut all).await? == 0 {
            return Ok(all);
        }
    }
}

/// Sends back what comes, until the end.
async fn echo(io: Rc<Io>) -> io::Result<()> {
    let mut buf = Vec::with_capacity(16 * 1024);
    loop {
        buf.clear();
        if io.read_buf(&mut buf).await? == 0 {
            return io.shutdown().await;
        }
        io.write_all(&buf).await?;
    }
}

/// Bytes in which a lost, doubled or swapped piece shows.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Writes and reads at once, as one task does with an exchange; both ends the same `Io`.
async fn exchange(io: &Io, data: &[u8]) -> io::Result<Vec<u8>> {
    let writing = async {
        io.write_all(data).await?;
        io.shutdown().await
    };
    let (written, read) = tokio::join!(writing, read_all(io));
    written?;
    read
}

/// Waits until the runtime has seen something arrive at a stream.
async fn arrival(io: &Io) {
    std::future::poll_fn(|cx| io.tcp.borrow_mut().poll_readable(cx)).await;
}
