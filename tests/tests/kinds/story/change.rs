//! Updates and patches of the maximal object, and of its status.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tests::{JSON, PROTOBUF};

use super::{Kind, RACES, Which, generation, holds, same, version};
use crate::entry::Generation;
use crate::events::Watches;
use crate::value::{content, merge};

impl Kind {
    /// The object as it is, with a change; what a write answers, and what it was before. Again after a conflict.
    async fn put(&self, path: &str, change: impl Fn(&mut Value)) -> Result<(Value, Value)> {
        for _ in 0..RACES {
            let before = self.stored(Which::Two).await?;
            let mut body = before.clone();
            change(&mut body);
            let answer = self.http.json("PUT", path, &body).await?;
            if answer.code != 409 {
                return Ok((before, answer.expect(200)?));
            }
        }
        bail!("{path} is always changed by another")
    }

    pub(super) async fn update(&self, watches: &mut Watches) -> Result<()> {
        let (item, change) = (self.item(Which::Two), self.filled(Which::Two, &self.entry.change));
        let (before, after) = self.put(&item, |body| merge(body, &change)).await?;
        holds(&after, &change)?;
        self.counted(&before, &after)?;
        ensure!(version(&before) != version(&after), "nothing was written: {after}");
        let event = watches.until("MODIFIED", &self.name(Which::Two), version(&after)).await?;
        same(&event, &after, "the event's object")?;

        let conflict = self.http.json("PUT", &item, &before).await?.expect(409)?;
        ensure!(conflict["reason"] == "Conflict", "{conflict}");
        let mut other = after.clone();
        other["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
        other["metadata"]["resourceVersion"] = version(&self.stored(Which::Two).await?).into();
        let conflict = self.http.json("PUT", &item, &other).await?.expect(409)?;
        ensure!(conflict["reason"] == "Conflict", "{conflict}");
        self.unchanged().await
    }

    /// What is stored, put again: in JSON, in protobuf, and another as a dry run.
    async fn unchanged(&self) -> Result<()> {
        let item = self.item(Which::Two);
        let mut last = String::new();
        for _ in 0..RACES {
            let before = self.stored(Which::Two).await?;
            let mut tried = before.clone();
            tried["metadata"]["annotations"]["tried"] = json!("yes");
            let mut answers = vec![
                self.http.json("PUT", &item, &before).await?,
                self.http.json("PUT", &format!("{item}?dryRun=All"), &tried).await?,
            ];
            if self.has_protobuf() {
                let encoded = self.http.get(&item, PROTOBUF).await?;
                let headers = [("content-type", PROTOBUF), ("accept", JSON)];
                answers.push(self.http.request("PUT", &item, &headers, encoded.body).await?);
            }
            if answers.iter().any(|answer| answer.code == 409) {
                continue;
            }
            for answer in answers {
                answer.expect(200)?;
            }
            let after = self.stored(Which::Two).await?;
            if after == before {
                return Ok(());
            }
            last = format!("{before}\nbecame\n{after}");
        }
        bail!("putting what is there changes it:\n{last}")
    }

    fn counted(&self, before: &Value, after: &Value) -> Result<()> {
        let more = i64::from(self.entry.generation == Generation::Counted && content(before) != content(after));
        let (old, new) = (generation(before), generation(after));
        ensure!(new == old + more, "the generation went from {old} to {new}");
        Ok(())
    }

    pub(super) async fn patch(&self, watches: &mut Watches) -> Result<()> {
        let item = self.item(Which::Two);
        let label = |name: &str| json!({"metadata": {"labels": {name: "yes"}}}).to_string();
        let json_patch = json!([
            {"op": "test", "path": "/metadata/name", "value": self.name(Which::Two)},
            {"op": "add", "path": "/metadata/labels/json", "value": "yes"},
        ]);
        for (media, name, body) in [
            ("application/json-patch+json", "json", json_patch.to_string()),
            ("application/merge-patch+json", "merge", label("merge")),
            ("application/strategic-merge-patch+json", "strategic", label("strategic")),
        ] {
            let headers = [("content-type", media)];
            let answer = self.http.request("PATCH", &item, &headers, body).await?;
            if name == "strategic" && !self.has_protobuf() {
                let refused = answer.expect(415)?;
                ensure!(refused["reason"] == "UnsupportedMediaType", "{refused}");
                continue;
            }
            let after = answer.expect(200).context(name)?;
            ensure!(after["metadata"]["labels"][name] == "yes", "{after}");
            watches.until("MODIFIED", &self.name(Which::Two), version(&after)).await?;
        }
        let change = self.filled(Which::Two, &self.entry.change).to_string();
        let headers = [("content-type", "application/merge-patch+json")];
        self.http.request("PATCH", &item, &headers, change).await?.expect(200)?;
        let test = json!([{"op": "test", "path": "/metadata/name", "value": "another"}]).to_string();
        let headers = [("content-type", "application/json-patch+json")];
        let refused = self.http.request("PATCH", &item, &headers, test).await?.expect(422)?;
        ensure!(refused["reason"] == "Invalid", "{refused}");
        Ok(())
    }

    /// A status is written on its own path, and only there.
    pub(super) async fn change_status(&self, watches: &mut Watches) -> Result<()> {
        let (item, status) = (self.item(Which::Two), self.filled(Which::Two, &self.entry.status));
        ensure!(status.is_object(), "the entry has no status, discovery has one");
        let path = format!("{item}/status");
        let change = self.filled(Which::Two, &self.entry.change);
        let (before, after) = self
            .put(&path, |body| {
                // Whatever a change says of the rest is passed over.
                merge(body, &change);
                body["metadata"]["ownerReferences"] = json!([]);
                body["status"] = status.clone();
            })
            .await?;
        holds(&after["status"], &status)?;
        same(&content(&after), &content(&before), "what is not status")?;
        ensure!(generation(&after) == generation(&before), "a status changes the generation");
        watches.until("MODIFIED", &self.name(Which::Two), "").await?;
        let got = self.http.get(&path, JSON).await?.expect(200)?;
        ensure!(got["kind"] == self.listed.kind, "{got}");

        let patch = json!({"metadata": {"annotations": {"by": "status"}}, "status": status}).to_string();
        let headers = [("content-type", "application/merge-patch+json")];
        let patched = self.http.request("PATCH", &path, &headers, patch).await?.expect(200)?;
        ensure!(patched["metadata"]["annotations"]["by"] == "status", "{patched}");
        holds(&patched["status"], &status)?;

        let (before, after) = self
            .put(&item, |body| {
                body["status"] = json!({});
                body["metadata"]["annotations"]["by"] = json!("object");
            })
            .await?;
        ensure!(after["metadata"]["annotations"]["by"] == "object", "{after}");
        same(&after["status"], &before["status"], "a status that is not written")
    }
}
