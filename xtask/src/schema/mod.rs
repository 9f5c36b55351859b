//! `cargo xtask schema FACTS`: the compact schema table from upstream's facts. See `api::schema` for its format.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

mod expand;
mod facts;
mod resolve;
mod write;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// `schema-facts.json` of the upstream release.
    facts: PathBuf,
    /// Only checks that the committed table is what would be written.
    #[arg(long)]
    check: bool,
}

/// Where the table is committed.
pub(crate) fn table_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/api/src/schema/table.txt")
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if options.check {
        return check(&options.facts);
    }
    let text = generate(&options.facts)?;
    let path = table_path();
    std::fs::write(&path, &text).with_context(|| format!("writing {}", path.display()))?;
    eprintln!(
        "{}: {} types, {} bytes",
        path.display(),
        text.lines().filter(|line| line.starts_with("io.")).count(),
        text.len()
    );
    Ok(())
}

/// Fails where the committed table is not what the facts give.
pub(crate) fn check(facts: &Path) -> anyhow::Result<()> {
    let path = table_path();
    let committed = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    if committed != generate(facts)? {
        bail!("the committed schema table differs from its facts: run `cargo xtask schema {}`", facts.display());
    }
    Ok(())
}

fn generate(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let mut facts: facts::Facts =
        serde_json::from_slice(&bytes).with_context(|| format!("parsing {}", path.display()))?;
    facts::supplement(&mut facts)?;
    write::table(&expand::types(&facts)?)
}
