//! Minimal and maximal objects, in JSON and in protobuf.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{JSON, PROTOBUF, protobuf};

use super::{Kind, LABEL, Which, generation, holds, same, version};
use crate::entry::Generation;
use crate::events::Watches;
use crate::value::{content, merge, text};

impl Kind {
    pub(super) async fn create(&self, watches: &mut Watches) -> Result<()> {
        let collection = self.collection();
        let minimal = self.object(Which::One, &self.entry.minimal);
        // Nothing of a dry run is there: the first event is the real one's.
        let tried = self.http.json("POST", &format!("{collection}?dryRun=All"), &minimal).await?.expect(201)?;
        ensure!(!text(&tried, "/metadata/uid").is_empty(), "a dry run has no uid: {tried}");
        ensure!(self.http.get(&self.item(Which::One), JSON).await?.code == 404, "a dry run is stored");
        for (which, of) in [(Which::One, &self.entry.minimal), (Which::Two, &self.entry.maximal)] {
            let sent = self.object(which, of);
            let made = self.http.json("POST", &collection, &sent).await?.expect(201)?;
            let mut wanted = sent.clone();
            if which == Which::Two {
                self.entry.becomes.iter().try_for_each(|(pointer, value)| -> Result<()> {
                    let (parent, name) = pointer.rsplit_once('/').context("a pointer")?;
                    let parent = wanted.pointer_mut(parent).with_context(|| format!("{pointer} points nowhere"))?;
                    merge(parent, &json!({name: value}));
                    Ok(())
                })?;
            }
            holds(&made, &wanted).with_context(|| format!("{which:?}"))?;
            self.is_new(&made)?;
            let event = watches.until("ADDED", &self.name(which), version(&made)).await?;
            same(&event, &made, "the event's object")?;
            let again = self.http.json("POST", &collection, &sent).await?.expect(409)?;
            ensure!(again["reason"] == "AlreadyExists", "{again}");
        }
        let mut other = self.object(Which::Five, &self.entry.minimal);
        other["kind"] = json!("Nothing");
        let refused = self.http.json("POST", &collection, &other).await?.expect(400)?;
        ensure!(refused["reason"] == "BadRequest", "{refused}");
        Ok(())
    }

    /// What the server itself sets.
    fn is_new(&self, made: &Value) -> Result<()> {
        for pointer in ["/metadata/uid", "/metadata/resourceVersion", "/metadata/creationTimestamp"] {
            ensure!(!text(made, pointer).is_empty(), "no {pointer}: {made}");
        }
        ensure!(
            generation(made) == i64::from(self.entry.generation != Generation::None),
            "the generation is {}",
            generation(made)
        );
        let fields = &made["metadata"]["managedFields"][0];
        ensure!(fields["operation"] == "Update" && fields["fieldsV1"].is_object(), "no owner: {made}");
        Ok(())
    }

    /// The server's own message of the maximal object, with a metadata that the test encodes: it comes back as it went.
    pub(super) async fn create_in_protobuf(&self, watches: &mut Watches) -> Result<()> {
        let collection = self.collection();
        if !self.has_protobuf() {
            let headers = [("content-type", PROTOBUF)];
            let refused = self.http.request("POST", &collection, &headers, "k8s\0").await?.expect(400)?;
            ensure!(refused["reason"] == "BadRequest", "{refused}");
            let sent = self.object(Which::Three, &self.entry.maximal);
            let made = self.http.json("POST", &collection, &sent).await?.expect(201)?;
            watches.until("ADDED", &self.name(Which::Three), version(&made)).await?;
            return Ok(());
        }
        let (json, dry) = (self.object(Which::Three, &self.entry.maximal), format!("{collection}?dryRun=All"));
        let tried = self.http.json("POST", &dry, &json).await?.expect(201)?;
        let headers = [("content-type", JSON), ("accept", PROTOBUF)];
        let encoded = self.http.request("POST", &dry, &headers, json.to_string()).await?;
        ensure!(encoded.code == 201 && encoded.media == PROTOBUF, "{} {}", encoded.code, encoded.text());
        let encoded = protobuf::Object::read(&encoded.body)?;
        ensure!(
            (&*encoded.api_version, &*encoded.kind) == (&*self.listed.version, &*self.listed.kind),
            "{} {}",
            encoded.api_version,
            encoded.kind
        );
        let namespace = if self.listed.namespaced { &*self.space } else { "" };
        let body = encoded.renamed(&self.name(Which::Three), namespace, (LABEL, &self.space))?.write();
        let made = self.http.request("POST", &collection, &[("content-type", PROTOBUF)], body).await?;
        // The answer is of the body's type where nothing else is asked for.
        ensure!(made.code == 201, "{} {}", made.code, made.text());
        let made = if made.media == PROTOBUF { self.stored(Which::Three).await? } else { made.value()? };
        holds(&made, &json!({"metadata": json["metadata"]}))?;
        watches.until("ADDED", &self.name(Which::Three), "").await?;
        same(&content(&made), &content(&tried), "what was sent in protobuf, and in JSON")
    }
}
