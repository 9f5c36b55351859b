//! `cargo xtask upstream DIR`: decoding and printing against upstream's fixtures, which are not part of the project.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use api::schema;
use base_meta::Gvk;
use base_meta::schema::{Decoded, SchemaRef, conform, decode, normalise};
use serde_json::Value;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder with `schema-facts.json` and `fixtures/`.
    folder: PathBuf,
    /// Prints what a failing fixture became.
    #[arg(long)]
    verbose: bool,
}

/// Kinds that are served today: a failure of theirs fails the check. Grows with the project.
const SERVED: &[(&str, &str, &str)] = &[
    ("", "v1", "Namespace"),
    ("", "v1", "Node"),
    ("", "v1", "Pod"),
    ("", "v1", "Service"),
    ("", "v1", "Endpoints"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Secret"),
    ("", "v1", "ServiceAccount"),
    ("", "v1", "Event"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "ReplicaSet"),
    ("coordination.k8s.io", "v1", "Lease"),
    ("discovery.k8s.io", "v1", "EndpointSlice"),
    ("events.k8s.io", "v1", "Event"),
];

/// Fixtures of kinds that are not served and do not pass yet, with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[];

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    crate::schema::check(&options.folder.join("schema-facts.json"))?;
    eprintln!("schema table: equals its facts");
    let fixtures = options.folder.join("fixtures");
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(&fixtures).with_context(|| format!("listing {}", fixtures.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".json").map(str::to_owned));
    }
    names.sort();
    let (mut passed, mut failed, mut excused) = (0, 0, 0);
    for (group, version, kind) in SERVED {
        let group = if group.is_empty() { "core" } else { group };
        let name = format!("{group}.{version}.{kind}");
        ensure!(names.contains(&name), "no fixture for the served kind {name}");
    }
    for name in &names {
        for media in ["json", "yaml"] {
            match (
                check(&fixtures, name, media, options.verbose),
                EXCEPTIONS.iter().find(|(excused, _)| excused == name),
            ) {
                (Ok(()), None) => passed += 1,
                (Err(error), None) => {
                    failed += 1;
                    eprintln!("FAIL {name} ({media}): {error:#}");
                }
                (Err(_), Some((_, reason))) => {
                    excused += 1;
                    eprintln!("not yet {name} ({media}): {reason}");
                }
                (Ok(()), Some(_)) => {
                    failed += 1;
                    eprintln!("FAIL {name} ({media}): passes now; take it off the list of exceptions");
                }
            }
        }
    }
    if excused > 0 {
        eprintln!("{excused} known exceptions");
    }
    eprintln!("{passed} passed, {failed} failed");
    ensure!(failed == 0, "fixtures differ from upstream");
    Ok(())
}

fn check(fixtures: &Path, name: &str, media: &str, verbose: bool) -> anyhow::Result<()> {
    let read = |suffix: &str| {
        let path = fixtures.join(format!("{name}.{suffix}"));
        std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
    };
    let json = read("json")?;
    let expected: Value = serde_json::from_slice(&json).context("parsing the fixture")?;
    let schema = schema_of(name)?;
    let Decoded { mut value, strict_errors } = if media == "json" {
        decode(schema, &json)
    } else {
        let parsed: Value = serde_norway::from_slice(&read("yaml")?).context("parsing the YAML")?;
        conform(schema, parsed)
    }
    .map_err(|error| anyhow::anyhow!("{}", error.client_message()))?;
    ensure!(strict_errors.is_empty(), "{}", strict_errors.join(", "));
    normalise(schema, &mut value);
    if value != expected {
        if verbose {
            eprintln!("{value:#}");
        }
        anyhow::bail!("{}", difference("", &value, &expected));
    }
    Ok(())
}

/// Fixtures are named `GROUP.VERSION.KIND`; a WatchEvent does not say itself what it is.
fn schema_of(name: &str) -> anyhow::Result<SchemaRef> {
    let mut parts = name.rsplitn(3, '.');
    let mut part = || parts.next().map(str::to_owned).context("a fixture is named GROUP.VERSION.KIND");
    let (kind, version, group) = (part()?, part()?, part()?);
    let group = if group == "core" { String::new() } else { group };
    let gvk = Gvk { group: group.into(), version: version.into(), kind: kind.into() };
    schema::by_gvk(&gvk).with_context(|| format!("no schema for {gvk}"))
}

/// The first place where two values differ.
fn difference(path: &str, ours: &Value, theirs: &Value) -> String {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let (ours, theirs) = (a.get(key), b.get(key));
                if ours != theirs {
                    return match (ours, theirs) {
                        (Some(ours), Some(theirs)) => difference(&format!("{path}.{key}"), ours, theirs),
                        (ours, theirs) => format!("{path}.{key}: {ours:?} for {theirs:?}"),
                    };
                }
            }
            format!("{path}: equal")
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find(|(_, (ours, theirs))| ours != theirs)
            .map_or_else(String::new, |(index, (ours, theirs))| difference(&format!("{path}[{index}]"), ours, theirs)),
        _ => format!("{path}: {ours} for {theirs}"),
    }
}
