//! Debian's wrk with a client certificate, and what it prints.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::Cluster;
use tempfile::TempDir;

use super::api::Api;

const CERTIFICATE_C: &str = include_str!("certificate.c");
const CREATE_LUA: &str = include_str!("create.lua");

pub(super) struct Wrk {
    directory: TempDir,
}

/// What one run of wrk is asked for.
pub(super) struct Load {
    pub(super) url: String,
    pub(super) connections: u32,
    pub(super) seconds: u32,
    /// For a load that creates: the script's variables.
    pub(super) create: Option<Create>,
}

pub(super) struct Create {
    pub(super) collection: String,
    pub(super) filler: String,
    /// Keeps the names of runs apart.
    pub(super) tag: usize,
}

impl Wrk {
    /// Compiles the certificate's loader and lays out what wrk reads.
    pub(super) fn new(api: &Api) -> Result<Self> {
        let wrk = Self { directory: tempfile::Builder::new().prefix("sampan-wrk-").tempdir()? };
        for (name, contents) in [
            ("certificate.c", CERTIFICATE_C),
            ("create.lua", CREATE_LUA),
            ("client.crt", &api.certificate),
            ("client.key", &api.key),
        ] {
            std::fs::write(wrk.path(name), contents).with_context(|| format!("writing {name}"))?;
        }
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(wrk.path("certificate.so"));
        let output = compiler.arg(wrk.path("certificate.c")).arg("-ldl").output().context("starting cc")?;
        ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        Ok(wrk)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs wrk in the cluster's namespace. Any failed request fails the run.
    pub(super) fn run(&self, cluster: &Cluster, load: &Load) -> Result<Rates> {
        let mut command = cluster.namespace.command("env");
        // Not set for nsenter itself, which has no OpenSSL.
        command.arg(format!("LD_PRELOAD={}", self.path("certificate.so").display()));
        command.arg(format!("CLIENT_CERTIFICATE={}", self.path("client.crt").display()));
        command.arg(format!("CLIENT_KEY={}", self.path("client.key").display()));
        if let Some(create) = &load.create {
            command.arg(format!("COLLECTION={}", create.collection));
            command.arg(format!("FILLER={}", create.filler)).arg(format!("TAG={}", create.tag));
        }
        command.args(["wrk", "--threads", "2", "--latency", "--timeout", "20s"]);
        command.arg(format!("--connections={}", load.connections)).arg(format!("--duration={}s", load.seconds));
        if load.create.is_some() {
            command.arg("--script").arg(self.path("create.lua"));
        }
        let output = command.arg(&load.url).output().context("starting wrk")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "wrk: {text}{}", String::from_utf8_lossy(&output.stderr));
        Rates::parse(&text)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rates {
    pub(super) per_second: f64,
    /// As wrk prints them.
    pub(super) p99: String,
    pub(super) transfer: String,
}

impl Rates {
    fn parse(text: &str) -> Result<Self> {
        let after = |key: &str| text.lines().find_map(|line| line.trim().strip_prefix(key)).map(str::trim);
        for trouble in ["Non-2xx or 3xx responses:", "Socket errors:"] {
            ensure!(after(trouble).is_none(), "{trouble} {}", after(trouble).unwrap_or_default());
        }
        let per_second = after("Requests/sec:").with_context(|| format!("no rate in wrk's output: {text}"))?;
        let per_second = per_second.parse().with_context(|| format!("{per_second} is no rate"))?;
        let text = |key| after(key).unwrap_or("?").to_owned();
        Ok(Self { per_second, p99: text("99%"), transfer: text("Transfer/sec:") })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_failures_are_not_rates() {
        let good =
            "  Thread Stats\n     50%    1.20ms\n     99%    3.80ms\nRequests/sec:  30123.45\nTransfer/sec: 1MB\n";
        assert_eq!(
            Rates::parse(good).unwrap(),
            Rates { per_second: 30123.45, p99: "3.80ms".into(), transfer: "1MB".into() }
        );
        for bad in [
            "",
            "Requests/sec: many",
            "  Non-2xx or 3xx responses: 3\nRequests/sec: 5",
            "  Socket errors: connect 1\nRequests/sec: 5",
        ] {
            assert!(Rates::parse(bad).is_err(), "{bad}");
        }
    }
}
