//! The protocol between the client and a shim: frames of JSON over a stream socket, descriptors beside them.
//! README.md describes it for readers of other versions. Fields are only ever added, with a default.
//!
//! A frame is a big-endian length (4 bytes), the number of descriptors sent with it (1 byte), then the JSON.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::kernel;
use crate::spec::ExecSpec;
use crate::status::ExitStatus;

/// Raised when an old shim could no longer be understood.
pub(crate) const VERSION: u32 = 1;
const HEADER: usize = 5;
const MAX_FRAME: usize = 4 << 20;
const READ_CHUNK: usize = 8 << 10;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Chosen by the client, echoed in the reply.
    pub(crate) id: u64,
    pub(crate) operation: Operation,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Operation {
    /// First on every connection; the shim answers with its own version and closes on one it cannot speak.
    Hello { version: u32 },
    /// Runs a container whose `spec.json` is in place.
    Start { container: String },
    Signal {
        container: String,
        /// 0 with an `exec`, which a shim that does not know of those refuses.
        signal: i32,
        /// Kills the process of that exec of this client, in place of a signal to the container's first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exec: Option<u64>,
    },
    /// `exec` is chosen by the client and names the process in `ExecExited`.
    Exec { container: String, exec: u64, spec: ExecSpec },
    Attach {
        container: String,
        /// How many bytes of the container's log the client knows.
        #[serde(default)]
        seen: u64,
    },
    /// Forgets a container that has ended.
    Forget { container: String },
    /// Kills every container; answered when all are dead.
    Stop,
    /// Ends the shim; refused while a container lives.
    Shutdown,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Reply {
        id: u64,
        result: Result<Reply, Failure>,
    },
    ContainerExited {
        container: String,
        status: ExitStatus,
    },
    /// Only to the client that asked for the exec.
    ExecExited {
        exec: u64,
        exit_code: i32,
    },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Hello {
        version: u32,
    },
    Done,
    Started {
        pid: i32,
        started_at: Timestamp,
        warnings: Vec<String>,
    },
    /// One descriptor per entry, in order.
    Streams {
        streams: Vec<StreamKind>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StreamKind {
    Stdin,
    Stdout,
    Stderr,
    /// The terminal itself, for both directions and its size.
    Terminal,
    /// The terminal, for its size only.
    Resize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) message: String,
    /// Set when a start failed: the container's final state.
    #[serde(default)]
    pub(crate) exit: Option<ExitStatus>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: None }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("a frame announced {announced} descriptors, {received} came")]
    Descriptors { announced: usize, received: usize },
    #[error("a frame is not understood")]
    Json(#[from] serde_json::Error),
}

/// The bytes of one frame; its descriptors travel with the first of them.
pub(crate) fn encode<T: Serialize>(message: &T, descriptors: u8) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    // Our own types have string keys only and write to memory: serialisation has no way to fail.
    serde_json::to_writer(&mut frame, message).expect("plain data serialises");
    let length = u32::try_from(frame.len() - HEADER).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame[4] = descriptors;
    frame
}

/// What has come in and was not understood yet.
#[derive(Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Takes one portion from a socket that does not block; 0 is its end.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let old = self.bytes.len();
        self.bytes.resize(old + READ_CHUNK, 0);
        let result = kernel::receive(socket, &mut self.bytes[old..]);
        self.bytes.truncate(old + result.as_ref().map_or(0, |(n, _)| *n));
        let (n, descriptors) = result?;
        self.descriptors.extend(descriptors);
        Ok(n)
    }

    /// The next whole frame.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Vec<OwnedFd>)>, FrameError> {
        let Some(header) = self.bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let announced = usize::from(header[4]);
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        let Some(body) = self.bytes.get(HEADER..HEADER + length) else { return Ok(None) };
        if self.descriptors.len() < announced {
            return Err(FrameError::Descriptors { announced, received: self.descriptors.len() });
        }
        let message = serde_json::from_slice(body)?;
        self.bytes.drain(..HEADER + length);
        if self.bytes.is_empty() {
            self.bytes = Vec::new(); // an idle connection keeps no buffer
        }
        Ok(Some((message, self.descriptors.drain(..announced).collect())))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn inbox(bytes: &[u8]) -> Inbox {
        Inbox { bytes: bytes.to_vec(), descriptors: VecDeque::new() }
    }

    #[test]
    fn a_frame_in_pieces_is_put_together() {
        let frame = encode(&Request { id: 7, operation: Operation::Stop }, 0);
        let mut inbox = inbox(&frame[..3]);
        assert!(inbox.next::<Request>().unwrap().is_none());
        inbox.bytes.extend(&frame[3..frame.len() - 1]);
        assert!(inbox.next::<Request>().unwrap().is_none());
        inbox.bytes.extend(&frame[frame.len() - 1..]);
        inbox.bytes.extend(&frame);
        assert_eq!(inbox.next::<Request>().unwrap().unwrap().0.id, 7);
        assert_eq!(inbox.next::<Request>().unwrap().unwrap().0.id, 7);
        assert!(inbox.next::<Request>().unwrap().is_none());
    }

    #[test]
    fn bad_frames_are_errors() {
        assert!(matches!(inbox(&[255, 0, 0, 0, 0]).next::<Request>(), Err(FrameError::TooLong(_))));
        assert!(matches!(inbox(&[0, 0, 0, 1, 0, b'{']).next::<Request>(), Err(FrameError::Json(_))));
        let announced = encode(&Request { id: 1, operation: Operation::Stop }, 2);
        assert!(matches!(
            inbox(&announced).next::<Request>(),
            Err(FrameError::Descriptors { announced: 2, received: 0 })
        ));
    }

    #[test]
    fn unknown_fields_of_a_newer_version_are_ignored() {
        let json = br#"{"id":1,"operation":{"Hello":{"version":9,"new":true}},"extra":1}"#;
        let mut frame = vec![0, 0, 0, u8::try_from(json.len()).unwrap(), 0];
        frame.extend(json);
        let request = inbox(&frame).next::<Request>().unwrap().unwrap().0;
        assert!(matches!(request.operation, Operation::Hello { version: 9 }));
    }
}
