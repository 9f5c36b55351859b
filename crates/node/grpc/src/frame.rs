//! A message as it lies in a body: one byte that says whether it is compressed, its length in four, itself.

use crate::status::{Code, Status};

pub(crate) const HEAD: usize = 5;

pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0][..], &length, message].concat()
}

/// How long the message is that a body begins with; `None` before its head is whole.
pub(crate) fn announced(body: &[u8]) -> Result<Option<usize>, Status> {
    let Some((head, _)) = body.split_at_checked(HEAD) else { return Ok(None) };
    match head[0] {
        0 => Ok(Some(length(head))),
        1 => Err(Status::new(Code::Unimplemented, "compressed messages are not taken")),
        _ => Err(Status::new(Code::Internal, "a message that is neither compressed nor not")),
    }
}

/// Of a whole head.
fn length(head: &[u8]) -> usize {
    head[1..].iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
}

/// The one message of an answer's body.
pub fn unframed(body: &[u8]) -> Result<&[u8], Status> {
    let bad = |why: &str| Err(Status::new(Code::Internal, why));
    let Some((head, message)) = body.split_at_checked(HEAD) else { return bad("the answer has no message") };
    if head[0] != 0 {
        return bad("the answer is compressed, which nobody asked for");
    }
    if message.len() != length(head) {
        return bad("the answer is not one whole message");
    }
    Ok(message)
}
