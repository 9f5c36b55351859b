//! Discovery against upstream's answers, for every group and version that is served.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use super::difference::difference;
use super::exceptions;
use super::server::Server;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// How many answers differ.
pub(super) async fn check(server: &Server, folder: &Path) -> anyhow::Result<usize> {
    let mut report = Report::default();
    let read = |name: &str| -> anyhow::Result<Value> {
        let path = folder.join(name);
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("parsing {}", path.display()))
    };

    let (mut ours, theirs) = (server.get("/apis", "application/json").await?, read("apis.json")?);
    without_ours(&mut ours, "groups", |group| &group["name"]);
    groups(&ours, &theirs, &mut report);
    let mut versions = vec![("/api/v1".to_owned(), "api__v1.json".to_owned())];
    for group in list(&ours, "groups") {
        for version in list(group, "versions") {
            let name = text(version, "groupVersion");
            versions.push((format!("/apis/{name}"), format!("apis__{}.json", name.replace('/', "__"))));
        }
    }
    for (path, file) in versions {
        let ours = server.get(&path, "application/json").await?;
        match read(&file) {
            Ok(theirs) => resources(&path, &ours, &theirs, &mut report),
            Err(_) => report.fail(format!("{path} is not in upstream's discovery")),
        }
    }
    let (mut ours, theirs) = (server.get("/apis", AGGREGATED).await?, read("aggregated_v2.json")?);
    without_ours(&mut ours, "items", |group| &group["metadata"]["name"]);
    aggregated(&ours, &theirs, &mut report);
    eprintln!("discovery: {} equal, {} differ, {} missing with a reason", report.equal, report.failed, report.excused);
    Ok(report.failed)
}

fn without_ours(of: &mut Value, list: &str, name: impl Fn(&Value) -> &Value) {
    if let Some(groups) = of[list].as_array_mut() {
        groups.retain(|group| *name(group) != exceptions::OUR_GROUP);
    }
}

#[derive(Default)]
struct Report {
    equal: usize,
    failed: usize,
    excused: usize,
}

impl Report {
    fn fail(&mut self, what: String) {
        self.failed += 1;
        eprintln!("FAIL discovery: {what}");
    }

    fn compare(&mut self, what: &str, ours: &Value, theirs: &Value) {
        if ours == theirs { self.equal += 1 } else { self.fail(format!("{what}{}", difference("", ours, theirs))) }
    }

    fn missing(&mut self, what: &str) {
        match exceptions::RESOURCES.iter().find(|(name, _)| *name == what) {
            Some(_) => self.excused += 1,
            None => self.fail(format!("{what} is missing")),
        }
    }
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// The order of the groups that both have, and of their versions.
fn groups(ours: &Value, theirs: &Value, report: &mut Report) {
    let names = |of: &Value| list(of, "groups").iter().map(|group| text(group, "name").to_owned()).collect::<Vec<_>>();
    let (our_names, their_names) = (names(ours), names(theirs));
    let expected: Vec<_> = their_names.iter().filter(|name| our_names.contains(name)).cloned().collect();
    report.compare("the order of groups", &our_names.into(), &expected.into());
    for name in
        their_names.iter().filter(|name| !list(ours, "groups").iter().any(|group| text(group, "name") == **name))
    {
        eprintln!("not served: group {name}");
    }
    for group in list(ours, "groups") {
        let name = text(group, "name");
        let Some(theirs) = list(theirs, "groups").iter().find(|theirs| text(theirs, "name") == name) else {
            report.fail(format!("group {name} is not upstream's"));
            continue;
        };
        report.compare(&format!("{name}: preferredVersion"), &group["preferredVersion"], &theirs["preferredVersion"]);
        let ours: Vec<&Value> = list(group, "versions").iter().collect();
        let theirs: Vec<&Value> = list(theirs, "versions").iter().filter(|version| ours.contains(version)).collect();
        report.compare(&format!("{name}: versions"), &to_value(&ours), &to_value(&theirs));
    }
}

fn to_value(all: &[&Value]) -> Value {
    Value::Array(all.iter().map(|one| (*one).clone()).collect())
}

fn by_name(of: &Value, list_name: &str, name: &str) -> BTreeMap<String, Value> {
    list(of, list_name).iter().map(|resource| (text(resource, name).to_owned(), sorted(resource))).collect()
}

/// Verbs, short names and categories in one order.
fn sorted(resource: &Value) -> Value {
    let mut resource = resource.clone();
    for name in ["verbs", "shortNames", "categories"] {
        if let Some(items) = resource[name].as_array_mut() {
            items.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
        } else if let Some(fields) = resource.as_object_mut() {
            fields.remove(name);
        }
    }
    resource
}

fn resources(path: &str, ours: &Value, theirs: &Value, report: &mut Report) {
    let version = path.trim_start_matches("/apis/").trim_start_matches("/api/");
    let head = |of: &Value| {
        let mut of = of.clone();
        of.as_object_mut().map(|of| of.remove("resources"));
        of
    };
    report.compare(&format!("{path}: head"), &head(ours), &head(theirs));
    let (ours, theirs) = (by_name(ours, "resources", "name"), by_name(theirs, "resources", "name"));
    for name in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
        let what = format!("{version} {name}");
        match (ours.get(name), theirs.get(name)) {
            (Some(ours), Some(theirs)) => report.compare(&what, ours, theirs),
            (None, _) => report.missing(&what),
            (Some(_), None) => report.fail(format!("{what} is not upstream's")),
        }
    }
}

/// Resources of both; what is missing has been told already.
fn aggregated(ours: &Value, theirs: &Value, report: &mut Report) {
    for group in list(ours, "items") {
        let name = text(&group["metadata"], "name");
        let Some(their_group) = list(theirs, "items").iter().find(|item| text(&item["metadata"], "name") == name)
        else {
            report.fail(format!("aggregated: {name} is not upstream's"));
            continue;
        };
        for version in list(group, "versions") {
            let of = text(version, "version");
            let Some(their_version) = list(their_group, "versions").iter().find(|v| text(v, "version") == of) else {
                report.fail(format!("aggregated: {name}/{of} is not upstream's"));
                continue;
            };
            let theirs = by_name(their_version, "resources", "resource");
            for (resource, mut entry) in by_name(version, "resources", "resource") {
                let Some(mut expected) = theirs.get(&resource).cloned() else { continue };
                for value in [&mut entry, &mut expected] {
                    value.as_object_mut().map(|fields| fields.remove("subresources"));
                }
                report.compare(&format!("aggregated {name}/{of} {resource}"), &entry, &expected);
            }
        }
    }
}
