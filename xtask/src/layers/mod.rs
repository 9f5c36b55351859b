//! `cargo xtask layers`: the design's arrows between crates, and what each layer's source may not hold.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

mod crates;
mod scan;
mod sources;

#[derive(clap::Args)]
pub(crate) struct Options {}

/// Files that may be longer than the rest, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

const LONGEST: usize = 600;

pub(crate) fn run(_options: &Options) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?;
    let mut problems = crates::check(root)?;
    let mut files = Vec::new();
    for folder in ["crates", "tests", "xtask"] {
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    for file in &files {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(file).to_string_lossy().into_owned();
        problems.extend(sources::check(&name, &text));
        let lines = text.lines().count();
        if lines > LONGEST && !LONG_FILES.iter().any(|(long, _)| *long == name) {
            problems
                .push(format!("{name}: {lines} lines, of {LONGEST} at most: split it, or give the reason in xtask"));
        }
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    ensure!(problems.is_empty(), "{} violations of the layers", problems.len());
    eprintln!("layers: {} files, no violation", files.len());
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
