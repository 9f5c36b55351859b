//! The binary: parse the command line, wire the parts together, run, drain.

mod agent;
mod balanced;
mod cluster;
mod cluster_facts;
mod cni;
mod cni_plugin;
mod config;
mod config_file;
mod drain;
mod front_proxy;
mod host;
mod image;
mod join_token;
mod kubeconfig;
mod local;
mod logs;
mod node;
mod owned;
mod pki;
mod renewing;
mod run;
mod runtime;
mod server;
mod signer;
mod token;
mod token_key;
mod trust;
mod uninstall;
mod users;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::config::{Cli, Command};

fn main() -> ExitCode {
    // Before anything else: the process may be a container's shim or init, a CNI plug-in, or the DNS keeper.
    if let Some(code) = node_oci::reexec() {
        return code_of(code);
    }
    if let Some(code) = cni_plugin::asked() {
        return code_of(code);
    }
    let mut arguments = std::env::args();
    if arguments.nth(1).as_deref() == Some(net_dns::keeper::ARGUMENT) {
        return code_of(net_dns::keeper::main(arguments.next().as_deref()));
    }
    let arguments = match config_file::arguments() {
        Ok(arguments) => arguments,
        Err(error) => return failed(&error),
    };
    if cfg!(debug_assertions)
        && let Ok(point) = std::env::var("SAMPAN_CRASH_AT")
    {
        base_sys::crash::arm(point);
    }
    let cli = Cli::parse_from(arguments);
    logs::start(cli.verbose);
    match run(cli.command, cli.verbose) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn run(command: Command, verbose: u8) -> Result<()> {
    // One provider for every TLS user of the process, the image puller's client included.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the async runtime")?;
    match command {
        Command::Server(options) => runtime.block_on(server::run(*options)),
        Command::Agent(options) => runtime.block_on(agent::run(*options)),
        Command::Up(options) => runtime.block_on(local::up(*options, verbose)),
        Command::Down(options) => runtime.block_on(local::down(options)),
        Command::Image(options) => runtime.block_on(image::run(options)),
        Command::Token(options) => runtime.block_on(token::run(options)),
        Command::Drain(data) => runtime.block_on(drain::run(data)),
        Command::Uninstall(data) => runtime.block_on(uninstall::run(data)),
    }
}

/// The whole chain, once.
fn failed(error: &anyhow::Error) -> ExitCode {
    use std::io::Write;
    // Nothing is left to do when standard error is gone too.
    let _ = writeln!(std::io::stderr(), "sampan: {error:#}");
    ExitCode::FAILURE
}

fn code_of(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
