//! Which crate may depend on which, from `cargo metadata`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// Absent for a normal one.
    kind: Option<String>,
    /// Set for crates of the workspace.
    path: Option<String>,
}

/// Components that one component may import, against the rule.
const EXCEPTIONS: &[(&str, &[&str])] = &[("node/agent", &["node/grpc", "node/oci", "node/images", "net/podnet"])];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    Base,
    Api,
    Machinery,
    Component,
    /// The binary, its tests, what is fuzzed and these chores: they may use everything.
    Top,
}

fn layer(folder: &str) -> Option<Layer> {
    Some(match folder.split('/').next()? {
        "base" => Layer::Base,
        "api" => Layer::Api,
        "machinery" => Layer::Machinery,
        "control" | "node" | "net" | "cli" => Layer::Component,
        "fuzz" | "sampan" | "tests" | "xtask" => Layer::Top,
        _ => return None,
    })
}

fn may_use(from: &str, to: &str) -> bool {
    let (Some(user), Some(used)) = (layer(from), layer(to)) else { return false };
    match (user, used) {
        (Layer::Top, used) => used != Layer::Top || from != "sampan",
        (_, Layer::Base) | (Layer::Machinery, Layer::Machinery) => true,
        (Layer::Component, Layer::Api | Layer::Machinery) => true,
        (Layer::Component, Layer::Component) => {
            EXCEPTIONS.iter().any(|(component, allowed)| *component == from && allowed.contains(&to))
        }
        _ => false,
    }
}

pub(super) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let folders: BTreeMap<&str, String> =
        metadata.packages.iter().map(|package| (package.name.as_str(), folder(root, &package.manifest_path))).collect();
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let from = &folders[package.name.as_str()];
        if layer(from).is_none() {
            problems.push(format!("{from}: lies in no layer of the design"));
        }
        for dependency in &package.dependencies {
            // What only tests use is not part of the layer.
            if dependency.path.is_none() || dependency.kind.as_deref() == Some("dev") {
                continue;
            }
            let Some(to) = folders.get(dependency.name.as_str()) else { continue };
            if !may_use(from, to) {
                problems.push(format!("{from} must not depend on {to}"));
            }
        }
        let manifest = std::fs::read_to_string(&package.manifest_path)
            .with_context(|| format!("reading {}", package.manifest_path))?;
        if !manifest.contains("[lints]\nworkspace = true") {
            problems.push(format!("{from}: does not use the workspace's lints"));
        }
    }
    Ok(problems)
}

/// `node/agent` for `ROOT/crates/node/agent/Cargo.toml`.
fn folder(root: &Path, manifest: &str) -> String {
    let path = Path::new(manifest);
    let path = path.strip_prefix(root).unwrap_or(path);
    let path = path.strip_prefix("crates").unwrap_or(path);
    path.parent().map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_point_down_only() {
        for (from, to) in [
            ("machinery/registry", "machinery/storage"),
            ("machinery/client", "base/tasks"),
            ("api", "base/meta"),
            ("net/proxy", "machinery/client"),
            ("control/resources", "api"),
            ("node/agent", "node/oci"),
            ("sampan", "net/dns"),
            ("xtask", "api"),
        ] {
            assert!(may_use(from, to), "{from} → {to}");
        }
        for (from, to) in [
            ("machinery/registry", "api"),
            ("base/meta", "api"),
            ("api", "machinery/storage"),
            ("net/proxy", "net/dns"),
            ("node/oci", "node/agent"),
            ("control/controllers", "sampan"),
            ("sampan", "xtask"),
            ("somewhere/else", "base/meta"),
        ] {
            assert!(!may_use(from, to), "{from} → {to}");
        }
    }
}
