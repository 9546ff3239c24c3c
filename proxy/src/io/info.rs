//! What the kernel knows of a TCP connection.

use std::os::fd::AsRawFd;

use super::Socket;

/// Where `tcpi_bytes_acked` stands in `struct tcp_info` (linux/tcp.h, since 4.1); the `libc` crate's
/// struct ends before it.
const BYTES_ACKED: usize = 120;
/// Enough of the struct to have the field in it; the kernel cuts to what is asked for.
const SIZE: usize = BYTES_ACKED + size_of::<u64>();

/// Bytes that the peer has acknowledged. `None`: the kernel does not say.
#[allow(unsafe_code, reason = "getsockopt with an option that no safe wrapper has; called after failures only")]
pub(super) fn bytes_acked(tcp: &Socket) -> Option<u64> {
    let fd = tcp.fd()?;
    let mut info = [0_u8; SIZE];
    let mut len = libc::socklen_t::try_from(SIZE).ok()?;
    // SAFETY: the descriptor is open while `tcp` is borrowed, and the kernel writes at most `len` bytes into
    // `info`, which has that many.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut len)
    };
    let whole = result == 0 && usize::try_from(len).is_ok_and(|len| len >= SIZE);
    let field = info.get(BYTES_ACKED..SIZE)?.try_into().ok()?;
    whole.then(|| u64::from_ne_bytes(field))
}
