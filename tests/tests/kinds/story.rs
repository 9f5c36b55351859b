//! What one kind goes through, from the first create to an empty list.

mod apply;
mod change;
mod create;
mod delete;
mod read;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Http, JSON};

use crate::Listed;
use crate::entry::{Asked, Entry};
use crate::events::Watches;
use crate::value::{filled, lacks, merge, text};

/// What every object of the table is labelled with; the value is its kind's.
const LABEL: &str = "table";

/// The objects of a story. Each has a word and a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// Minimal, created in JSON.
    One = 1,
    /// Maximal, created in JSON.
    Two,
    /// Maximal, created in protobuf.
    Three,
    /// Minimal, applied.
    Four,
    /// Never stored.
    Five,
}

impl Which {
    const fn word(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Two => "two",
            Self::Three => "three",
            Self::Four => "four",
            Self::Five => "five",
        }
    }
}

/// How often a step is tried again after a controller changed the object in its middle.
const RACES: usize = 20;

pub struct Kind {
    http: Http,
    listed: Listed,
    entry: Entry,
    /// The label's value, and the namespace of a namespaced kind.
    space: String,
}

impl Kind {
    pub fn new(http: Http, listed: Listed, entry: Entry) -> Self {
        let version = listed.version.replace(['.', '/'], "-");
        let space = format!("{}-{version}", listed.plural);
        // A label's value is no longer than this.
        let space = space[..space.len().min(63)].trim_end_matches('-').to_owned();
        Self { http, listed, entry, space }
    }

    pub async fn tell(self) -> Result<()> {
        if self.listed.namespaced {
            self.make_namespace().await.context("its namespace")?;
        }
        if let Some(asked) = &self.entry.asked {
            return self.ask(asked).await;
        }
        if !self.has("create") {
            return self.read_only().await;
        }
        let list = self.http.get(&self.list(""), JSON).await?.expect(200)?;
        let from = text(&list, "/metadata/resourceVersion");
        let path = self.list(&format!("&watch=true&resourceVersion={from}"));
        let mut watches = Watches::start(&self.http, &path, self.has_protobuf()).await.context("watch")?;
        self.create(&mut watches).await.context("create")?;
        self.create_in_protobuf(&mut watches).await.context("create in protobuf")?;
        self.read().await.context("read")?;
        self.update(&mut watches).await.context("update")?;
        self.patch(&mut watches).await.context("patch")?;
        self.apply(&mut watches).await.context("apply")?;
        self.select().await.context("select")?;
        if self.listed.subresources.contains("status") {
            self.change_status(&mut watches).await.context("status")?;
        } else {
            ensure!(self.entry.status.is_null(), "the entry has a status, discovery has none");
        }
        self.delete(&mut watches).await.context("delete")?;
        watches.agree().await.context("watch")
    }

    fn has(&self, verb: &str) -> bool {
        self.listed.verbs.contains(verb)
    }

    /// Kinds of the table's own definition have none.
    fn has_protobuf(&self) -> bool {
        self.listed.version != "table.example.com/v1"
    }

    fn name(&self, which: Which) -> String {
        let name = filled(&json!(self.entry.name), which.word(), which as usize, &self.space);
        name.as_str().map_or_else(|| name.to_string(), str::to_owned)
    }

    /// An object of the entry, with its type, name and label.
    fn object(&self, which: Which, of: &Value) -> Value {
        let metadata = json!({"name": self.name(which), "labels": {LABEL: self.space}});
        let mut object = json!({"apiVersion": self.listed.version, "kind": self.listed.kind, "metadata": metadata});
        merge(&mut object, &self.filled(which, of));
        if self.listed.namespaced {
            object["metadata"]["namespace"] = json!(self.space);
        }
        object
    }

    fn filled(&self, which: Which, value: &Value) -> Value {
        filled(value, which.word(), which as usize, &self.space)
    }

    fn root(&self) -> String {
        match self.listed.version.contains('/') {
            true => format!("/apis/{}", self.listed.version),
            false => format!("/api/{}", self.listed.version),
        }
    }

    fn collection(&self) -> String {
        match self.listed.namespaced {
            true => format!("{}/namespaces/{}/{}", self.root(), self.space, self.listed.plural),
            false => format!("{}/{}", self.root(), self.listed.plural),
        }
    }

    fn item(&self, which: Which) -> String {
        format!("{}/{}", self.collection(), self.name(which))
    }

    /// The table's own objects of this kind; `more` goes on after a `&`.
    fn list(&self, more: &str) -> String {
        format!("{}?labelSelector={LABEL}%3D{}{more}", self.collection(), self.space)
    }

    async fn stored(&self, which: Which) -> Result<Value> {
        self.http.get(&self.item(which), JSON).await?.expect(200)
    }

    async fn make_namespace(&self) -> Result<()> {
        self.http.json("POST", "/api/v1/namespaces", &json!({"metadata": {"name": self.space}})).await?.expect(201)?;
        // Pods need it.
        let accounts = format!("/api/v1/namespaces/{}/serviceaccounts", self.space);
        let path = format!("{accounts}?watch=true&fieldSelector=metadata.name%3Ddefault");
        let mut watch = self.http.watch(&path, JSON).await?;
        watch.line().await?.context("the watch of accounts ended").map(drop)
    }

    /// Answered and not stored.
    async fn ask(&self, asked: &Asked) -> Result<()> {
        ensure!(self.listed.verbs.len() == 1 && self.has("create"), "verbs: {:?}", self.listed.verbs);
        let mut body = self.filled(Which::One, &asked.body);
        (body["apiVersion"], body["kind"]) = (json!(self.listed.version), json!(self.listed.kind));
        let answer = self.http.json("POST", &self.collection(), &body).await?.expect(asked.code)?;
        holds(&answer, &self.filled(Which::One, &asked.answer))
    }

    async fn read_only(&self) -> Result<()> {
        let list = self.http.get(&self.collection(), JSON).await?.expect(200)?;
        ensure!(list["kind"] == format!("{}List", self.listed.kind), "{list}");
        Ok(())
    }
}

#[track_caller]
fn same(got: &Value, wanted: &Value, what: &str) -> Result<()> {
    ensure!(got == wanted, "{what}:\n{got}\nwants\n{wanted}");
    Ok(())
}

fn holds(object: &Value, wanted: &Value) -> Result<()> {
    match lacks(object, wanted) {
        Some(what) => Err(anyhow::anyhow!("{what} in {object}")),
        None => Ok(()),
    }
}

fn version(object: &Value) -> &str {
    text(object, "/metadata/resourceVersion")
}

fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or_default()
}
