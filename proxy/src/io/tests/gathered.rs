//! Writes that wait for the end of a wake-up.

use std::{
    future::{pending, poll_fn},
    io,
    pin::Pin,
    task::Poll,
    time::Duration,
};

use tokio::io::AsyncWrite;

use super::{Io, pair, pair_with, pattern, read_all, run, spawn};
use crate::io::{Gathered, Writer};

/// Writes as `h2` does: as much as is taken now, and a flush.
async fn write(stream: &mut Gathered, mut bytes: &[u8]) -> io::Result<()> {
    poll_fn(|cx| {
        while !bytes.is_empty() {
            let n = std::task::ready!(Pin::new(&mut *stream).poll_write(cx, bytes))?;
            bytes = &bytes[n..];
        }
        Pin::new(&mut *stream).poll_flush(cx)
    })
    .await
}

async fn settle(writer: &Writer) {
    let once = async {
        tokio::task::yield_now().await;
    };
    writer.drive(once).await;
}

#[test]
fn what_one_wake_up_writes_goes_out_together_and_when_it_is_over() {
    run(async {
        let (near, far) = pair().await;
        let near = Io::plain(near);
        let (mut stream, writer) = Gathered::new(near);
        for part in [&b"one "[..], b"two ", b"three"] {
            write(&mut stream, part).await.unwrap();
        }
        assert_eq!(writer.0.io.handed(), 0);
        settle(&writer).await;
        assert_eq!(writer.0.io.handed(), 13);
        drop((stream, writer));
        assert_eq!(read_all(&Io::plain(far)).await.unwrap(), b"one two three");
    });
}

#[test]
fn large_writes_keep_their_place() {
    run(async {
        let (near, far) = pair_with(Some(4096)).await;
        let data = pattern(4 * 1024 * 1024);
        let expected = data.clone();
        let (mut stream, writer) = Gathered::new(Io::plain(near));
        let writing = spawn(async move {
            let all = async {
                let sizes = [9, 1024, 16 * 1024, 3, 40_000, 8 * 1024, 500].into_iter().cycle();
                let mut rest = &data[..];
                for size in sizes {
                    let (now, later) = rest.split_at(size.min(rest.len()));
                    write(&mut stream, now).await.unwrap();
                    rest = later;
                    if rest.is_empty() {
                        break;
                    }
                }
            };
            writer.drive(all).await;
            writer.finish(Duration::from_secs(30)).await;
        });
        assert!(read_all(&Io::plain(far)).await.unwrap() == expected);
        writing.await.unwrap();
    });
}

#[test]
fn a_peer_that_reads_nothing_stops_the_writer() {
    run(async {
        let (near, _far) = pair_with(Some(4096)).await;
        let (mut stream, writer) = Gathered::new(Io::plain(near));
        let mut taken = 0;
        let all = poll_fn(|cx| {
            for _ in 0..100_000 {
                match Pin::new(&mut stream).poll_write(cx, &[7; 100]) {
                    Poll::Ready(n) => taken += n.unwrap(),
                    Poll::Pending => return Poll::Ready(()),
                }
            }
            panic!("{taken} bytes are taken and nobody reads");
        });
        writer.drive(all).await;
        assert!(writer.0.out.borrow().len() <= 64 * 1024);
    });
}

#[test]
fn the_error_of_a_late_write_is_told_with_the_next() {
    run(async {
        let (near, far) = pair().await;
        let (mut stream, writer) = Gathered::new(Io::plain(near));
        Io::plain(far).abort();
        // The reset is there once reading says so.
        assert!(writer.0.io.read_buf(&mut Vec::with_capacity(8)).await.is_err());
        write(&mut stream, b"to nobody").await.unwrap();
        let told = writer.drive(async {
            tokio::task::yield_now().await;
            write(&mut stream, b"again").await
        });
        assert!(told.await.is_err());
        let woken = tokio::time::timeout(Duration::from_millis(1), writer.drive(pending::<()>()));
        assert!(woken.await.is_err(), "an error is told once");
    });
}
