//! `cargo xtask upstream DIR`: the project against upstream's reference data, which is not part of it.

mod difference;
mod fixtures;
mod served;

use std::path::PathBuf;

use anyhow::ensure;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder with `schema-facts.json` and `fixtures/`.
    folder: PathBuf,
    /// Prints what a failing fixture became.
    #[arg(long)]
    verbose: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    crate::schema::check(&options.folder.join("schema-facts.json"))?;
    eprintln!("schema table: equals its facts");
    let failed = fixtures::check(&options.folder.join("fixtures"), options.verbose)?;
    ensure!(failed == 0, "{failed} differences from upstream");
    Ok(())
}
