//! Server-side apply: it creates, changes nothing the second time, and minds who owns what.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::Whole;

use super::{Kind, RACES, Which, version};
use crate::events::Watches;

impl Kind {
    pub(super) async fn apply(&self, watches: &mut Watches) -> Result<()> {
        let mut mine = self.object(Which::Four, &self.entry.minimal);
        mine["metadata"]["labels"]["owner"] = json!("alpha");
        let tried = self.apply_as("alpha&dryRun=All", &mine).await?.expect(201)?;
        ensure!(tried["metadata"]["labels"]["owner"] == "alpha", "{tried}");
        let made = self.apply_as("alpha", &mine).await?.expect(201)?;
        watches.until("ADDED", &self.name(Which::Four), version(&made)).await?;
        self.applied_again(&mine).await?;

        let mut theirs = json!({"apiVersion": mine["apiVersion"], "kind": mine["kind"]});
        theirs["metadata"] = json!({"name": mine["metadata"]["name"], "labels": {"owner": "beta"}});
        let conflict = self.apply_as("beta", &theirs).await?.expect(409)?;
        ensure!(conflict["reason"] == "Conflict", "{conflict}");
        let cause = &conflict["details"]["causes"][0];
        ensure!(cause["reason"] == "FieldManagerConflict" && cause["field"] == ".metadata.labels.owner", "{conflict}");
        ensure!(owners(&self.stored(Which::Four).await?) == ["alpha"], "a conflict changed something");

        let forced = self.apply_as("beta&force=true", &theirs).await?.expect(200)?;
        ensure!(forced["metadata"]["labels"]["owner"] == "beta" && owners(&forced) == ["beta"], "{forced}");
        watches.until("MODIFIED", &self.name(Which::Four), version(&forced)).await.map(drop)
    }

    async fn applied_again(&self, mine: &Value) -> Result<()> {
        let mut last = String::new();
        for _ in 0..RACES {
            let before = self.stored(Which::Four).await?;
            let after = self.apply_as("alpha", mine).await?.expect(200)?;
            if after == before {
                return Ok(());
            }
            last = format!("{before}\nbecame\n{after}");
        }
        anyhow::bail!("applying the same changes it:\n{last}")
    }

    /// `manager` may go on as a query.
    async fn apply_as(&self, manager: &str, configuration: &Value) -> Result<Whole> {
        let path = format!("{}?fieldManager={manager}", self.item(Which::Four));
        let headers = [("content-type", "application/apply-patch+yaml")];
        self.http.request("PATCH", &path, &headers, configuration.to_string()).await
    }
}

/// Who owns the label that both want.
fn owners(object: &Value) -> Vec<&str> {
    let all = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let of_label = all.filter(|entry| !entry["fieldsV1"]["f:metadata"]["f:labels"]["f:owner"].is_null());
    of_label.filter_map(|entry| entry["manager"].as_str()).collect()
}
