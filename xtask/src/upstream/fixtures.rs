//! One populated object per kind, as JSON, YAML and protobuf: each must become each of the others.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use api::schema;
use base_meta::Gvk;
use base_meta::schema::{Decoded, SchemaRef, conform, decode, normalise};
use machinery_apiserver::protobuf;
use serde_json::Value;

use super::difference::difference;
use super::served::SERVED;

/// Fixtures that do not pass through the type of their kind, with the reason. Each still converts to protobuf.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("apps.v1.StatefulSet", "claim templates are stored with their type, as upstream's conversion stores them"),
    (
        "policy.v1.PodDisruptionBudget",
        "a null among disruptedPods, which no client writes, is no time to the typed object",
    ),
];

const FORMS: [&str; 4] = ["json", "yaml", "pb", "to pb"];

/// How many checks failed.
pub(super) fn check(folder: &Path, verbose: bool) -> anyhow::Result<usize> {
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".json").map(str::to_owned));
    }
    names.sort();
    for served in SERVED {
        ensure!(names.iter().any(|found| found == served.name), "no fixture for the served kind {}", served.name);
    }
    let (mut passed, mut failed) = (0, 0);
    for name in &names {
        for form in FORMS {
            let excused = EXCEPTIONS.iter().find(|(excused, _)| excused == name && form != "to pb");
            match (one(folder, name, form, verbose), excused) {
                (Ok(()), None) => passed += 1,
                (Err(error), None) => {
                    failed += 1;
                    eprintln!("FAIL {name} ({form}): {error:#}");
                }
                (Err(_), Some((_, reason))) => eprintln!("not yet {name} ({form}): {reason}"),
                (Ok(()), Some(_)) => {
                    failed += 1;
                    eprintln!("FAIL {name} ({form}): passes now; take it off the list of exceptions");
                }
            }
        }
    }
    eprintln!("fixtures: {passed} passed, {failed} failed");
    Ok(failed)
}

/// `form` is what is read, and becomes the fixture's JSON; `to pb` is the JSON's way to protobuf.
fn one(folder: &Path, name: &str, form: &str, verbose: bool) -> anyhow::Result<()> {
    let read = |suffix: &str| {
        let path = folder.join(format!("{name}.{suffix}"));
        std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
    };
    let json = read("json")?;
    let expected: Value = serde_json::from_slice(&json).context("parsing the fixture")?;
    let (mut gvk, schema) = kind(name)?;
    if expected.get("kind").is_none() {
        // A WatchEvent does not say what it is.
        gvk = Gvk::of("", "", "");
    }
    if form == "to pb" {
        let theirs = read("pb")?;
        let ours = protobuf::from_json(&gvk, schema, &expected)?;
        return same_bytes(&ours, &theirs, schema);
    }
    let Decoded { mut value, strict_errors } = match form {
        "json" => decode(schema, &json),
        "yaml" => {
            let parsed: Value = serde_norway::from_slice(&read("yaml")?).context("parsing the YAML")?;
            conform(schema, parsed)
        }
        _ => conform(schema, protobuf::to_json(&read("pb")?, schema)?),
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
        bail!("{}", difference("", &value, &expected));
    }
    Ok(())
}

fn same_bytes(ours: &[u8], theirs: &[u8], schema: SchemaRef) -> anyhow::Result<()> {
    if ours == theirs {
        return Ok(());
    }
    let (ours_read, theirs_read) = (protobuf::to_json(ours, schema)?, protobuf::to_json(theirs, schema)?);
    let at = ours.iter().zip(theirs).take_while(|(one, other)| one == other).count();
    let around = |bytes: &[u8]| {
        let part = &bytes[at.saturating_sub(24).min(bytes.len())..(at + 24).min(bytes.len())];
        part.escape_ascii().to_string()
    };
    bail!(
        "byte {at} of {} and {}: {} for {}{}",
        ours.len(),
        theirs.len(),
        around(ours),
        around(theirs),
        if ours_read == theirs_read { String::new() } else { difference("; read back", &ours_read, &theirs_read) }
    );
}

/// Fixtures are named `GROUP.VERSION.KIND`.
fn kind(name: &str) -> anyhow::Result<(Gvk, SchemaRef)> {
    let mut parts = name.rsplitn(3, '.');
    let mut part = || parts.next().map(str::to_owned).context("a fixture is named GROUP.VERSION.KIND");
    let (kind, version, group) = (part()?, part()?, part()?);
    let group = if group == "core" { String::new() } else { group };
    let gvk = Gvk { group: group.into(), version: version.into(), kind: kind.into() };
    let schema = schema::by_gvk(&gvk).with_context(|| format!("no schema for {gvk}"))?;
    Ok((gvk, schema))
}
