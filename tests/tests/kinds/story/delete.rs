//! The end of every object.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::JSON;

use super::read::names;
use super::{Kind, Which, same};
use crate::events::Watches;

impl Kind {
    pub(super) async fn delete(&self, watches: &mut Watches) -> Result<()> {
        let item = self.item(Which::Two);
        for (precondition, value) in [("uid", "00000000-0000-0000-0000-000000000000"), ("resourceVersion", "1")] {
            let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {precondition: value}});
            let conflict = self.http.json("DELETE", &item, &options).await?.expect(409)?;
            ensure!(conflict["reason"] == "Conflict", "{conflict}");
        }
        let tried = self.http.request("DELETE", &format!("{item}?dryRun=All"), &[], "").await?;
        ensure!(tried.code == 200, "{}", tried.text());
        let before = self.stored(Which::Two).await?;
        ensure!(before["metadata"]["deletionTimestamp"].is_null(), "a dry run deletes: {before}");
        let options = json!({"preconditions": {"uid": before["metadata"]["uid"]}, "propagationPolicy": "Background"});
        let answer = self.http.json("DELETE", &item, &options).await?.expect(200)?;
        let told = [json!("Status"), json!(self.listed.kind)];
        ensure!(told.contains(&answer["kind"]), "{answer}");
        let last = watches.until("DELETED", &self.name(Which::Two), "").await?;
        same(&last["metadata"]["uid"], &before["metadata"]["uid"], "who was deleted")?;
        let gone = self.http.get(&item, JSON).await?.expect(404)?;
        ensure!(gone["reason"] == "NotFound" && gone["details"]["name"] == self.name(Which::Two), "{gone}");
        self.delete_the_rest(watches).await
    }

    async fn delete_the_rest(&self, watches: &mut Watches) -> Result<()> {
        if self.has("deletecollection") {
            let path = self.list(",owner%3Dbeta&dryRun=All");
            ensure!(self.http.request("DELETE", &path, &[], "").await?.code == 200, "deletecollection as a dry run");
            let path = self.list(",owner%3Dbeta");
            let deleted = self.http.request("DELETE", &path, &[], "").await?.expect(200)?;
            ensure!(deleted["kind"] == format!("{}List", self.listed.kind), "{deleted}");
            watches.until("DELETED", &self.name(Which::Four), "").await?;
            let left = names(&self.http.get(&self.list(""), JSON).await?.expect(200)?);
            ensure!(left.len() == 2, "{left:?} are left");
            self.http.request("DELETE", &self.list(""), &[], "").await?.expect(200)?;
        } else {
            for which in [Which::Four, Which::One, Which::Three] {
                self.http.request("DELETE", &self.item(which), &[], "").await?.expect(200)?;
            }
            watches.until("DELETED", &self.name(Which::Four), "").await?;
        }
        // In either order.
        let mut left = vec![self.name(Which::One), self.name(Which::Three)];
        while let Some(name) = left.pop() {
            if self.http.get(&format!("{}/{name}", self.collection()), JSON).await?.code != 404 {
                watches.until("DELETED", &name, "").await?;
            }
        }
        let list = names(&self.http.get(&self.list(""), JSON).await?.expect(200)?);
        ensure!(list.is_empty(), "{list:?} are left");
        Ok(())
    }
}
