//! Commands in containers and ports of sandboxes. All but the synchronous command answer with a URL to ask on.

pub const EXEC_SYNC: &str = "runtime.v1.RuntimeService/ExecSync";
pub const EXEC: &str = "runtime.v1.RuntimeService/Exec";
pub const ATTACH: &str = "runtime.v1.RuntimeService/Attach";
pub const PORT_FORWARD: &str = "runtime.v1.RuntimeService/PortForward";

#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecSyncRequest {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, repeated, tag = "2")]
    pub cmd: Vec<String>,
    /// Seconds; 0: no bound.
    #[prost(int64, tag = "3")]
    pub timeout: i64,
}

/// At most 16 MB of each stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecSyncResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub stdout: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub stderr: Vec<u8>,
    #[prost(int32, tag = "3")]
    pub exit_code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecRequest {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, repeated, tag = "2")]
    pub cmd: Vec<String>,
    #[prost(bool, tag = "3")]
    pub tty: bool,
    #[prost(bool, tag = "4")]
    pub stdin: bool,
    #[prost(bool, tag = "5")]
    pub stdout: bool,
    /// Not with a terminal.
    #[prost(bool, tag = "6")]
    pub stderr: bool,
}

/// Where it is asked for.
pub type ExecResponse = String;

#[derive(Clone, PartialEq, prost::Message)]
pub struct AttachRequest {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(bool, tag = "2")]
    pub stdin: bool,
    #[prost(bool, tag = "3")]
    pub tty: bool,
    #[prost(bool, tag = "4")]
    pub stdout: bool,
    /// Not with a terminal.
    #[prost(bool, tag = "5")]
    pub stderr: bool,
}

/// Where it is asked for.
pub type AttachResponse = String;

#[derive(Clone, PartialEq, prost::Message)]
pub struct PortForwardRequest {
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
    #[prost(int32, repeated, tag = "2")]
    pub port: Vec<i32>,
}

/// Where it is asked for.
pub type PortForwardResponse = String;
