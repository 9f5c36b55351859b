//! `cargo xtask upstream DIR`: the project against upstream's reference data, which is not part of it.

mod difference;
mod discovery;
mod exceptions;
mod fixtures;
mod openapi;
mod served;
mod server;

use std::path::PathBuf;

use anyhow::{Context, ensure};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder with `schema-facts.json`, `fixtures/`, `discovery/` and `swagger.json`.
    folder: PathBuf,
    /// Prints what a failing fixture became.
    #[arg(long)]
    verbose: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    crate::schema::check(&options.folder.join("schema-facts.json"))?;
    eprintln!("schema table: equals its facts");
    let mut failed = fixtures::check(&options.folder.join("fixtures"), options.verbose)?;
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    failed += runtime.block_on(async {
        let server = server::Server::start().await?;
        let discovery = discovery::check(&server, &options.folder.join("discovery")).await?;
        anyhow::Ok(discovery + openapi::check(&server, &options.folder.join("swagger.json")).await?)
    })?;
    ensure!(failed == 0, "{failed} differences from upstream");
    Ok(())
}
