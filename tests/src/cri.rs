//! The runtime's own socket, asked by somebody else's gRPC (`tests/clients/python/cri.py`).

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::host::repository;
use crate::kubectl::{self, Answer};

impl Cluster {
    pub fn cri_socket(&self) -> PathBuf {
        self.data_dir().join("cri.sock")
    }

    /// For a test that talks to the client while it runs.
    pub fn cri_command(&self, arguments: &[&str]) -> Command {
        let python = repository().join("target/clients/python/bin/python");
        assert!(python.exists(), "{} is missing; get it with scripts/setup.sh tests", python.display());
        let mut command = self.namespace.command(python);
        command.arg(repository().join("tests/clients/python/cri.py")).arg(self.cri_socket()).args(arguments);
        command
    }

    /// The client, with `input` on its standard input.
    pub fn cri(&self, arguments: &[&str], input: &str) -> Result<Answer> {
        kubectl::answer(self.cri_command(arguments), input)
    }

    /// One call and its answer.
    pub fn cri_call(&self, method: &str, request: &Value) -> Result<Value> {
        let answer = self.cri(&["call", method, &request.to_string()], "")?.ok();
        serde_json::from_str(&answer).with_context(|| format!("the answer to {method}"))
    }

    /// Why a call has no answer: its code's name, and words.
    pub fn cri_refusal(&self, method: &str, request: &Value) -> Result<String> {
        Ok(self.cri(&["call", method, &request.to_string()], "")?.error())
    }
}
