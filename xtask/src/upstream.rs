//! `cargo xtask upstream DIR`: decoding and printing against upstream's fixtures, which are not part of the project.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use api::schema;
use base_meta::Gvk;
use base_meta::schema::{Decoded, SchemaRef, conform, decode, normalise};
use k8s_openapi::api::{apps::v1 as apps, core::v1 as core};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder with `schema-facts.json` and `fixtures/`.
    folder: PathBuf,
    /// Prints what a failing fixture became.
    #[arg(long)]
    verbose: bool,
}

/// A kind that is served, and its passage through the type that its strategy works on.
struct Served {
    name: &'static str,
    typed: fn(Value) -> serde_json::Result<Value>,
}

fn typed<T: DeserializeOwned + Serialize>(value: Value) -> serde_json::Result<Value> {
    serde_json::to_value(serde_json::from_value::<T>(value)?)
}

/// Kinds that are served today. Grows with the project.
const SERVED: &[Served] = &[
    Served { name: "core.v1.Namespace", typed: typed::<core::Namespace> },
    Served { name: "core.v1.Node", typed: typed::<core::Node> },
    Served { name: "core.v1.Pod", typed: typed::<core::Pod> },
    Served { name: "core.v1.Service", typed: typed::<core::Service> },
    Served { name: "core.v1.Endpoints", typed: typed::<core::Endpoints> },
    Served { name: "core.v1.ConfigMap", typed: typed::<core::ConfigMap> },
    Served { name: "core.v1.Secret", typed: typed::<core::Secret> },
    Served { name: "core.v1.ServiceAccount", typed: typed::<core::ServiceAccount> },
    Served { name: "core.v1.Event", typed: typed::<core::Event> },
    Served { name: "apps.v1.Deployment", typed: typed::<apps::Deployment> },
    Served { name: "apps.v1.ReplicaSet", typed: typed::<apps::ReplicaSet> },
    Served { name: "coordination.k8s.io.v1.Lease", typed: typed::<k8s_openapi::api::coordination::v1::Lease> },
    Served {
        name: "discovery.k8s.io.v1.EndpointSlice",
        typed: typed::<k8s_openapi::api::discovery::v1::EndpointSlice>,
    },
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
    for Served { name, .. } in SERVED {
        ensure!(names.iter().any(|found| found == name), "no fixture for the served kind {name}");
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
    if let Some(served) = SERVED.iter().find(|served| served.name == name) {
        value = (served.typed)(value).context("passing through its type")?;
    }
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
