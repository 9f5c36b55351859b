//! Client libraries of other languages: a program of `tests/clients` each, which prints a line for all that held.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tests::{Cluster, Options, must, repository};

/// Runs a program in the node's network namespace; `held` is how many lines it prints when all is well.
fn check(program: &[&OsStr], held: usize) -> Result<()> {
    let cluster = Cluster::start(Options { images: vec!["busybox"], ..Options::default() })?;
    let (first, rest) = program.split_first().context("a program")?;
    let mut command = cluster.namespace.command(first);
    command.args(rest).env("KUBECONFIG", cluster.data_dir().join("kubeconfig.yaml"));
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {program:?}"))?;
    let (said, cried) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{program:?}: {}\n{said}{cried}\n{}", output.status, cluster.log());
    let lines = said.lines().filter(|line| line.starts_with("ok: ")).count();
    ensure!(lines == held, "{lines} lines, not {held}:\n{said}{cried}");
    cluster.finish()
}

fn installed(path: &str) -> PathBuf {
    let path = repository().join("target/clients").join(path);
    assert!(path.exists(), "{} is missing; get it with scripts/setup.sh tests", path.display());
    path
}

fn kinds() -> PathBuf {
    repository().join("tests/clients/kinds.yaml")
}

#[test]
fn python() {
    let script = repository().join("tests/clients/python/check.py");
    must(check(&[installed("python/bin/python").as_ref(), script.as_ref(), kinds().as_ref()], 9));
}

#[test]
fn javascript() {
    let (script, kinds) = (installed("javascript/check.js"), kinds());
    let options = ["--preserve-symlinks", "--preserve-symlinks-main"].map(OsStr::new);
    must(check(&["node".as_ref(), options[0], options[1], script.as_ref(), kinds.as_ref()], 7));
}

#[test]
fn rust() {
    must(check(&[installed("rust/debug/check").as_ref()], 11));
}
