//! Handing file descriptors to another process over a Unix socket (`SCM_RIGHTS`).

use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// The most descriptors in one message.
const MOST: usize = 8;

/// Sends copies of `fds`, with one byte that carries them.
///
/// # Errors
/// The socket's; `InvalidInput` for more than eight descriptors.
pub fn send(socket: &UnixStream, fds: &[BorrowedFd<'_>]) -> Result<()> {
    if fds.len() > MOST {
        return Err(Error::new(ErrorKind::InvalidInput, "too many file descriptors for one message"));
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives what one [`send`] sent; they are closed on exec.
///
/// # Errors
/// The socket's; `UnexpectedEof` when the peer went away; `InvalidData` for another number of descriptors than `count`.
pub fn receive(socket: &UnixStream, count: usize) -> Result<Vec<OwnedFd>> {
    let mut byte = [0];
    let mut buffer = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([RawFd; MOST]);
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut buffer, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just made these descriptors for this process, and nothing else knows them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    match (message.bytes, fds.len()) {
        (0, _) => Err(ErrorKind::UnexpectedEof.into()),
        (_, got) if got == count => Ok(fds),
        (_, got) => Err(Error::new(ErrorKind::InvalidData, format!("{got} file descriptors, not {count}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_descriptor_arrives_and_works() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let (mut end, carried) = UnixStream::pair().expect("a pair");
        send(&here, &[carried.as_fd()]).expect("sent");
        drop(carried);
        let received = receive(&there, 1).expect("received").remove(0);
        UnixStream::from(received).write_all(b"hello").expect("written");
        let mut text = String::new();
        end.read_to_string(&mut text).expect("read");
        assert_eq!(text, "hello");
    }

    #[test]
    fn a_wrong_number_and_a_closed_peer_are_errors() {
        let (here, there) = UnixStream::pair().expect("a pair");
        send(&here, &[here.as_fd()]).expect("sent");
        assert_eq!(receive(&there, 2).expect_err("refused").kind(), ErrorKind::InvalidData);
        drop(here);
        assert_eq!(receive(&there, 1).expect_err("refused").kind(), ErrorKind::UnexpectedEof);
    }
}
