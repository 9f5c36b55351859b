//! Container images for the demo and the tests, built offline from Debian's packages: no registry, no Docker, no root.
//!
//! A recipe names packages and what to put around them. Their files go from the package archives straight into one
//! layer, in memory; the outcome is a `docker save` archive that is the same byte for byte for the same packages.

mod archive;
mod packages;
mod recipes;
mod rootfs;

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use recipes::Recipe;

#[derive(clap::Args)]
pub struct Options {
    /// Where the archives go.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Which images to build; all of them by default.
    names: Vec<String>,
}

pub fn run(options: &Options) -> Result<()> {
    let recipes = recipes::all();
    for name in &options.names {
        if !recipes.iter().any(|recipe| recipe.name == name) {
            let known: Vec<_> = recipes.iter().map(|recipe| recipe.name).collect();
            bail!("no image {name:?}: there are {}", known.join(", "));
        }
    }
    let out = match &options.out {
        Some(out) => out.clone(),
        None => {
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?.join("target/images")
        }
    };
    std::fs::create_dir_all(&out).with_context(|| format!("create {}", out.display()))?;
    for recipe in &recipes {
        if options.names.is_empty() || options.names.iter().any(|name| name == recipe.name) {
            build(recipe, &out).with_context(|| format!("build image {}", recipe.name))?;
        }
    }
    Ok(())
}

fn build(recipe: &Recipe, out: &Path) -> Result<()> {
    let packages = packages::closure(recipe.packages)?;
    let path = out.join(format!("{}.tar", recipe.name));
    let stamp_path = out.join(format!("{}.stamp", recipe.name));
    let stamp = stamp(&packages)?;
    let current = path.is_file() && std::fs::read_to_string(&stamp_path).is_ok_and(|old| old == stamp);
    if !current {
        let rootfs = recipe.rootfs(&packages)?;
        let config = recipe.config(&packages)?;
        // A half-written archive never has the name, nor a stamp; another build at the same time has a file of its own.
        let partial = tempfile::Builder::new().permissions(Permissions::from_mode(0o644)).tempfile_in(out)?;
        archive::write(partial.path(), &rootfs, &config, recipe.tags)?;
        partial.persist(&path).with_context(|| format!("rename to {}", path.display()))?;
        std::fs::write(&stamp_path, stamp).with_context(|| format!("write {}", stamp_path.display()))?;
    }
    let size = std::fs::metadata(&path)?.len();
    let state = if current { "unchanged" } else { "built" };
    report(&format!("{} ({}): {state}, {:.1} MB", path.display(), recipe.tags.join(", "), size as f64 / 1e6));
    Ok(())
}

/// What decides an image's content: the packages, and this program, which holds the recipes.
fn stamp(packages: &packages::Closure) -> Result<String> {
    let program = std::fs::metadata(std::env::current_exe()?).context("look at this program")?;
    let versions: String = packages.versions().map(|(name, version)| format!("{name}={version}\n")).collect();
    Ok(format!("{versions}xtask={}.{}.{}\n", program.len(), program.mtime(), program.mtime_nsec()))
}

#[allow(clippy::print_stdout)] // a command's output
fn report(line: &str) {
    println!("{line}");
}
