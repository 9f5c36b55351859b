//! Calls over gRPC, as the runtime's socket takes them.

use std::fmt::Debug;

use node_grpc::messages::cri;
use node_grpc::{Message, framed, unframed};

type Read = fn(&[u8]);

/// A request of each shape; others are a string, a number or nothing.
const REQUESTS: [Read; 12] = [
    again::<cri::RunPodSandboxRequest>,
    again::<cri::ListPodSandboxRequest>,
    again::<cri::CreateContainerRequest>,
    again::<cri::StopContainerRequest>,
    again::<cri::ListContainersRequest>,
    again::<cri::UpdateContainerResourcesRequest>,
    again::<cri::ExecSyncRequest>,
    again::<cri::ExecRequest>,
    again::<cri::PortForwardRequest>,
    again::<cri::PullImageRequest>,
    again::<cri::UpdatePodSandboxResourcesRequest>,
    again::<String>,
];

/// What can be read is written and read again.
fn again<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(message) = M::decode(bytes) else { return };
    assert_eq!(M::decode(&*message.encode_to_vec()).as_ref(), Ok(&message));
}

/// The first byte says which request the frame has.
pub fn cri(data: &[u8]) {
    let Some((which, body)) = data.split_first() else { return };
    let Ok(message) = unframed(body) else { return };
    assert_eq!(framed(message), body, "one message has one frame");
    REQUESTS[usize::from(*which) % REQUESTS.len()](message);
}
