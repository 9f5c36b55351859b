//! One connection to a shim: requests out, replies and events in.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

use crate::kernel;
use crate::layout::SHIM_SOCKET;
use crate::wire::{self, Failure, Inbox, Message, Operation, Reply, Request};

type Answer = Result<(Reply, Vec<OwnedFd>), Failure>;

#[derive(Debug)]
pub(super) enum CallError {
    /// The connection is closed.
    Gone,
    Failed(Failure),
}

/// The sending half; the receiving half is [`Receiver`].
pub(super) struct Connection {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    waiting: Arc<Waiting>,
    next: AtomicU64,
}

#[derive(Default)]
struct Waiting(Mutex<Option<HashMap<u64, Waiter>>>);

struct Waiter {
    answer: oneshot::Sender<Answer>,
    /// The container whose start is waited for.
    starting: Option<String>,
}

pub(super) struct Receiver {
    reader: OwnedReadHalf,
    inbox: Inbox,
    waiting: Arc<Waiting>,
}

/// What the reader of a connection has to keep account of, in the order in which the shim said it.
pub(super) enum Notice {
    Started {
        container: String,
        pid: i32,
        started_at: jiff::Timestamp,
    },
    StartFailed {
        container: String,
        status: crate::ExitStatus,
    },
    Exited {
        container: String,
        status: crate::ExitStatus,
    },
    ExecExited {
        exec: u64,
        exit_code: i32,
    },
    /// A reply that concerns only the one who asked.
    Nothing,
}

pub(super) fn connect(directory: &Path) -> io::Result<(Connection, Receiver)> {
    let entrance = nix::fcntl::open(directory, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let entrance = kernel::inherited(entrance)?;
    // The whole path may be too long for a socket's address.
    let short = Path::new("/proc/self/fd").join(entrance.as_raw_fd().to_string()).join(SHIM_SOCKET);
    let socket = BlockingStream::connect(short)?;
    socket.set_nonblocking(true)?;
    let (reader, writer) = UnixStream::from_std(socket)?.into_split();
    let waiting = Arc::new(Waiting(Mutex::new(Some(HashMap::new()))));
    let connection = Connection { writer: writer.into(), waiting: Arc::clone(&waiting), next: AtomicU64::new(1) };
    Ok((connection, Receiver { reader, inbox: Inbox::default(), waiting }))
}

impl Connection {
    /// Asks and waits for the answer.
    pub(super) async fn call(&self, operation: Operation) -> Result<(Reply, Vec<OwnedFd>), CallError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let starting = match &operation {
            Operation::Start { container } => Some(container.clone()),
            _ => None,
        };
        let (answer, answered) = oneshot::channel();
        if !self.waiting.insert(id, Waiter { answer, starting }) {
            return Err(CallError::Gone);
        }
        let frame = wire::encode(&Request { id, operation }, 0);
        if self.writer.lock().await.write_all(&frame).await.is_err() {
            return Err(CallError::Gone);
        }
        match answered.await {
            Ok(answer) => answer.map_err(CallError::Failed),
            Err(_) => Err(CallError::Gone),
        }
    }

    /// A number that no other request or exec of this connection has.
    pub(super) fn unique(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

impl Waiting {
    /// False once the connection is closed.
    fn insert(&self, id: u64, waiter: Waiter) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.as_mut().map(|w| w.insert(id, waiter)).is_some()
    }

    fn take(&self, id: u64) -> Option<Waiter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.remove(&id)
    }

    fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Receiver {
    /// The next notice; `None` when the connection has ended. `apply` sees each before the asker is woken, so
    /// that whoever asked finds it accounted for.
    pub(super) async fn run(mut self, mut apply: impl FnMut(Notice)) {
        loop {
            loop {
                match self.inbox.next::<Message>() {
                    Ok(Some((message, descriptors))) => self.dispatch(message, descriptors, &mut apply),
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(%error, "a shim sent what is not understood; its connection is closed");
                        return;
                    }
                }
            }
            let Self { reader, inbox, .. } = &mut self;
            let socket: &UnixStream = reader.as_ref();
            match socket.async_io(Interest::READABLE, || inbox.receive(socket.as_fd())).await {
                Ok(n) if n > 0 => {}
                _ => return,
            }
        }
    }

    fn dispatch(&self, message: Message, descriptors: Vec<OwnedFd>, apply: &mut impl FnMut(Notice)) {
        match message {
            Message::ContainerExited { container, status } => apply(Notice::Exited { container, status }),
            Message::ExecExited { exec, exit_code } => apply(Notice::ExecExited { exec, exit_code }),
            Message::Reply { id, result } => {
                let Some(waiter) = self.waiting.take(id) else { return };
                apply(match (&result, waiter.starting) {
                    (Ok(Reply::Started { pid, started_at, .. }), Some(container)) => {
                        Notice::Started { container, pid: *pid, started_at: *started_at }
                    }
                    (Err(Failure { exit: Some(status), .. }), Some(container)) => {
                        Notice::StartFailed { container, status: status.clone() }
                    }
                    _ => Notice::Nothing,
                });
                // The asker may have given up; descriptors are closed then.
                let _ = waiter.answer.send(result.map(|reply| (reply, descriptors)));
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.waiting.close();
    }
}
