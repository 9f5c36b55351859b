//! The watches of one story: the same events in every form.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Http, JSON, PROTOBUF, Stream, protobuf};

use crate::value::text;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";

/// Type, name and resourceVersion of an event.
type Seen = (String, String, String);

pub struct Watches {
    json: Stream,
    /// What the JSON watch has told so far.
    seen: Vec<Seen>,
    others: Vec<(&'static str, Stream)>,
}

impl Watches {
    /// `path` has a query that says from where on and which objects.
    pub async fn start(http: &Http, path: &str, with_protobuf: bool) -> Result<Self> {
        let mut others = Vec::new();
        for accept in [TABLE, METADATA].into_iter().chain(with_protobuf.then_some(PROTOBUF)) {
            others.push((accept, http.watch(path, accept).await?));
        }
        Ok(Self { json: http.watch(path, JSON).await?, seen: Vec::new(), others })
    }

    /// Waits for the event of a write; an empty resourceVersion is any. Returns its object.
    pub async fn until(&mut self, kind: &str, name: &str, version: &str) -> Result<Value> {
        loop {
            let line = self.json.line().await.with_context(|| format!("waiting for {kind} {name} {version}"))?;
            let event: Value = serde_json::from_slice(&line.context("the watch ended")?)?;
            let seen = seen(&event, &event["object"]);
            let found = seen.0 == kind && seen.1 == name && (version.is_empty() || seen.2 == version);
            ensure!(matches!(&*seen.0, "ADDED" | "MODIFIED" | "DELETED"), "{event}");
            self.seen.push(seen);
            if found {
                return Ok(event["object"].clone());
            }
        }
    }

    /// Every other watch has told the same by now.
    pub async fn agree(mut self) -> Result<()> {
        for (accept, stream) in &mut self.others {
            for (index, wanted) in self.seen.iter().enumerate() {
                let got = match *accept {
                    PROTOBUF => {
                        let (kind, object) = protobuf::event(&stream.frame().await?.context("the watch ended")?)?;
                        let (name, version) = object.identity()?;
                        (kind, name, version)
                    }
                    _ => {
                        let line = stream.line().await?.context("the watch ended")?;
                        let event: Value = serde_json::from_slice(&line)?;
                        form(accept, index, &event)?
                    }
                };
                ensure!(got == *wanted, "as {accept}, event {index} is {got:?}, not {wanted:?}");
            }
        }
        Ok(())
    }
}

fn form(accept: &str, index: usize, event: &Value) -> Result<Seen> {
    let object = &event["object"];
    if accept == METADATA {
        ensure!(object["kind"] == "PartialObjectMetadata", "{event}");
        return Ok(seen(event, object));
    }
    ensure!(object["kind"] == "Table", "{event}");
    let rows = object["rows"].as_array().context("rows")?;
    ensure!(rows.len() == 1, "{event}");
    let columns = object["columnDefinitions"].as_array().map_or(0, Vec::len);
    let cells = rows[0]["cells"].as_array().map_or(0, Vec::len);
    ensure!(cells > 0 && (index > 0 || columns == cells), "{columns} columns, {cells} cells: {event}");
    Ok(seen(event, &rows[0]["object"]))
}

fn seen(event: &Value, object: &Value) -> Seen {
    let of = |value: &Value, pointer| text(value, pointer).to_owned();
    (of(event, "/type"), of(object, "/metadata/name"), of(object, "/metadata/resourceVersion"))
}
