//! The ends of an exec's or attach's streams that the shim passed us: plain pipes, or one terminal for both
//! directions. Exec data never crosses the shim.

use std::future::Future;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::sandbox::Sandbox;
use crate::kernel;
use crate::wire::Operation;

/// What `exec` and `attach` hand out. Dropping `stdin` closes the process's standard input (pipes only).
#[derive(Debug)]
pub struct Streams {
    pub stdin: Option<StreamWriter>,
    pub stdout: Option<StreamReader>,
    pub stderr: Option<StreamReader>,
    /// Present with a terminal.
    pub resize: Option<Terminal>,
    /// Resolves when the process ends (for `attach`: the container).
    pub exit: Exit,
}

/// Reads what the process writes; ends when it and its children have closed their side.
#[derive(Debug)]
pub struct StreamReader(AsyncFd<OwnedFd>);

/// Writes to the process's standard input.
#[derive(Debug)]
pub struct StreamWriter(AsyncFd<OwnedFd>);

/// Sets the size of the process's terminal.
#[derive(Clone, Debug)]
pub struct Terminal(Arc<OwnedFd>);

/// The exit code, by the same rules as [`crate::ExitStatus::exit_code`]; `None` when the shim was lost.
pub struct Exit {
    pub(super) code: oneshot::Receiver<i32>,
    pub(super) unfinished: Option<Unfinished>,
}

/// An exec's process whose end was not heard of. Dropping it kills the process: nobody waits for it any more.
pub(super) struct Unfinished {
    pub(super) sandbox: Weak<Sandbox>,
    pub(super) container: String,
    pub(super) exec: u64,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Without either everything is being taken down.
        let (Some(sandbox), Ok(tokio)) = (self.sandbox.upgrade(), Handle::try_current()) else { return };
        let operation =
            Operation::Signal { container: std::mem::take(&mut self.container), signal: 0, exec: Some(self.exec) };
        tokio.spawn(async move {
            // An older shim refuses: then the process goes on, as it did there.
            let _ = sandbox.call(operation).await;
        });
    }
}

impl std::fmt::Debug for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exit").finish_non_exhaustive()
    }
}

fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped, and the `AsyncFd` owns it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

impl StreamReader {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        kernel::set_nonblocking(fd.as_fd())?;
        register(fd, Interest::READABLE).map(Self)
    }
}

impl StreamWriter {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        kernel::set_nonblocking(fd.as_fd())?;
        register(fd, Interest::WRITABLE).map(Self)
    }
}

impl Terminal {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(Arc::new(fd))
    }

    /// Sets the size in characters; the foreground process gets `SIGWINCH`.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        kernel::set_window_size(self.0.as_fd(), columns, rows)
    }
}

impl AsyncRead for StreamReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let unfilled = buf.initialize_unfilled();
            match guard.try_io(|fd| kernel::borrow_file(fd.get_ref()).read(unfilled)) {
                Ok(Ok(n)) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                // A terminal whose last user has gone reads as an input/output error, not as an end.
                Ok(Err(e)) if e.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for StreamWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            match guard.try_io(|fd| kernel::borrow_file(fd.get_ref()).write(data)) {
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // nothing is buffered here
    }

    /// The end of the input is the closing of the pipe, that is, dropping the writer.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Future for Exit {
    type Output = Option<i32>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let code = ready!(Pin::new(&mut self.code).poll(cx));
        if let Some(ended) = &mut self.unfinished {
            // There is nothing to kill any more.
            ended.sandbox = Weak::new();
        }
        Poll::Ready(code.ok())
    }
}
