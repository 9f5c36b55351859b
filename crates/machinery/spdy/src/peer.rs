//! A client that speaks frames by hand, for tests of servers. What is wrong is a panic.
#![allow(clippy::expect_used)]

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::decode::Decoder;
use crate::encode::Encoder;
use crate::frame::{Frame, StreamId};

pub struct Peer<S> {
    pub socket: S,
    encoder: Encoder,
    decoder: Decoder,
    buffer: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub fn new(socket: S) -> Self {
        Self { socket, encoder: Encoder::default(), decoder: Decoder::default(), buffer: BytesMut::new() }
    }

    pub async fn send(&mut self, frames: &[Frame]) {
        let mut bytes = BytesMut::new();
        frames.iter().for_each(|frame| self.encoder.encode(frame, &mut bytes));
        self.socket.write_all(&bytes).await.expect("a server that reads");
        self.socket.flush().await.expect("a server that reads");
    }

    /// The next frame; `None` once the server has hung up.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer).expect("a frame") {
                return Some(frame);
            }
            if self.socket.read_buf(&mut self.buffer).await.expect("a server that writes") == 0 {
                return None;
            }
        }
    }

    /// Opens a stream.
    pub async fn open(&mut self, stream: StreamId, headers: &[(&str, &str)]) {
        let headers = headers.iter().copied().collect();
        self.send(&[Frame::SynStream { stream, fin: false, headers }]).await;
    }

    /// What comes on one stream until its end; what comes on others meanwhile is dropped. `Err`: it was reset.
    pub async fn read(&mut self, stream: StreamId) -> Result<String, String> {
        let mut said = BytesMut::new();
        loop {
            match self.next().await.expect("a server that stays") {
                Frame::Data { stream: of, fin, data } if of == stream => {
                    said.extend_from_slice(&data);
                    if fin {
                        return Ok(String::from_utf8_lossy(&said).into_owned());
                    }
                }
                Frame::Reset { stream: of, .. } if of == stream => {
                    return Err(String::from_utf8_lossy(&said).into_owned());
                }
                _ => {}
            }
        }
    }

    pub async fn write(&mut self, stream: StreamId, data: &str, fin: bool) {
        self.send(&[Frame::Data { stream, fin, data: Bytes::copy_from_slice(data.as_bytes()) }]).await;
    }
}
