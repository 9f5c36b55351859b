//! One object and all of them in every form, selected and in pages.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{JSON, PROTOBUF, protobuf};

use super::{Kind, RACES, Which, same, version};
use crate::value::text;

const YAML: &str = "application/yaml";

impl Kind {
    pub(super) async fn read(&self) -> Result<()> {
        let item = self.item(Which::Two);
        for _ in 0..RACES {
            let before = self.stored(Which::Two).await?;
            let in_forms = self.forms(&item, &before).await;
            if version(&self.stored(Which::Two).await?) == version(&before) {
                in_forms?;
                return self.lists().await;
            }
        }
        anyhow::bail!("{item} does not come to rest")
    }

    async fn forms(&self, item: &str, json: &Value) -> Result<()> {
        let yaml = self.http.get(item, YAML).await?;
        ensure!(yaml.code == 200 && yaml.media == YAML, "{} {}", yaml.code, yaml.media);
        same(&serde_norway::from_slice(&yaml.body)?, json, "as YAML")?;

        let table = self.http.get(item, &form("Table")).await?.expect(200)?;
        let (columns, rows) = (&table["columnDefinitions"], &table["rows"]);
        ensure!(table["kind"] == "Table" && rows.as_array().is_some_and(|rows| rows.len() == 1), "{table}");
        let width = columns.as_array().map_or(0, Vec::len);
        ensure!(width > 0 && rows[0]["cells"].as_array().is_some_and(|cells| cells.len() == width), "{table}");
        ensure!(columns[0]["name"] == "Name" || self.listed.plural == "events", "{table}");
        same(&rows[0]["object"]["metadata"], &json["metadata"], "the row's object")?;

        let part = self.http.get(item, &form("PartialObjectMetadata")).await?.expect(200)?;
        let wanted =
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": json["metadata"]});
        same(&part, &wanted, "metadata only")?;

        if !self.has_protobuf() {
            let refused = self.http.get(item, PROTOBUF).await?;
            ensure!(refused.code == 406 && refused.media == PROTOBUF, "{} {}", refused.code, refused.text());
            let both = format!("{PROTOBUF},{JSON}");
            return same(&self.http.get(item, &both).await?.expect(200)?, json, "the second choice");
        }
        let whole = self.http.get(item, PROTOBUF).await?;
        ensure!(whole.code == 200 && whole.media == PROTOBUF, "{} {}", whole.code, whole.media);
        let object = protobuf::Object::read(&whole.body)?;
        let identity = (text(json, "/metadata/name").to_owned(), version(json).to_owned());
        ensure!(object.kind == self.listed.kind && object.identity()? == identity, "{object:?}");
        let part = format!("{PROTOBUF};as=PartialObjectMetadata;v=v1;g=meta.k8s.io");
        let part = protobuf::Object::read(&self.http.get(item, &part).await?.body)?;
        ensure!(part.kind == "PartialObjectMetadata" && part.identity()? == identity, "{part:?}");
        Ok(())
    }

    async fn lists(&self) -> Result<()> {
        let path = self.list("");
        let list = self.http.get(&path, JSON).await?.expect(200)?;
        let wanted = (json!(format!("{}List", self.listed.kind)), json!(self.listed.version));
        ensure!(
            (&list["kind"], &list["apiVersion"]) == (&wanted.0, &wanted.1),
            "{} {}",
            list["kind"],
            list["apiVersion"]
        );
        ensure!(names(&list) == self.names(&[Which::One, Which::Two, Which::Three]), "{:?}", names(&list));
        let yaml: Value = serde_norway::from_slice(&self.http.get(&path, YAML).await?.body)?;
        ensure!(names(&yaml) == names(&list), "as YAML: {:?}", names(&yaml));
        let table = self.http.get(&path, &form("Table")).await?.expect(200)?;
        ensure!(table["rows"].as_array().is_some_and(|rows| rows.len() == 3), "{table}");
        let part = self.http.get(&path, &form("PartialObjectMetadataList")).await?.expect(200)?;
        ensure!(part["kind"] == "PartialObjectMetadataList" && names(&part) == names(&list), "{part}");
        if self.has_protobuf() {
            let whole = protobuf::Object::read(&self.http.get(&path, PROTOBUF).await?.body)?;
            ensure!(protobuf::items(&whole)? == 3 && whole.kind == wanted.0, "{whole:?}");
        }
        Ok(())
    }

    fn names(&self, all: &[Which]) -> BTreeSet<String> {
        all.iter().map(|which| self.name(*which)).collect()
    }

    /// By labels, by fields, in pages.
    pub(super) async fn select(&self) -> Result<()> {
        let all = self.names(&[Which::One, Which::Two, Which::Three, Which::Four]);
        let found = async |more: &str| -> Result<BTreeSet<String>> {
            Ok(names(&self.http.get(&self.list(more), JSON).await?.expect(200).context(more.to_owned())?))
        };
        ensure!(found("").await? == all, "{:?}", found("").await?);
        // What `apply` has labelled.
        ensure!(found(",owner%3Dbeta").await? == self.names(&[Which::Four]), "by label");
        let rest = self.names(&[Which::One, Which::Two, Which::Three]);
        ensure!(
            found(",owner+notin+(beta)").await? == rest,
            "by another label: {:?}",
            found(",owner+notin+(beta)").await?
        );
        ensure!(found(",!owner").await? == rest, "by a missing label");
        let two = self.name(Which::Two);
        ensure!(found(&format!("&fieldSelector=metadata.name%3D{two}")).await? == self.names(&[Which::Two]), "by name");
        for (field, value) in &self.entry.fields {
            let value = self.filled(Which::Two, &json!(value));
            let value = value.as_str().context("a field's value")?;
            // In a query, and in a selector.
            let value = value.replace('{', "%7B").replace('}', "%7D").replace('/', "%2F");
            let same = found(&format!("&fieldSelector={field}%3D{value}")).await?;
            ensure!(same.contains(&two), "{field}={value} finds {same:?}");
            let other = found(&format!("&fieldSelector={field}!%3D{value}")).await?;
            ensure!(!other.contains(&two), "{field}!={value} finds {other:?}");
            ensure!(&same | &other == all, "{field}: {same:?} and {other:?}");
        }
        let unknown = self.http.get(&self.list("&fieldSelector=spec.nothing%3Da"), JSON).await?.expect(400)?;
        ensure!(unknown["reason"] == "BadRequest", "{unknown}");

        let (mut paged, mut token, mut at) = (Vec::new(), String::new(), String::new());
        loop {
            let page = self.http.get(&self.list(&format!("&limit=1&continue={token}")), JSON).await?.expect(200)?;
            let items = page["items"].as_array().context("items")?;
            ensure!(items.len() <= 1, "a page of {}", items.len());
            paged.extend(items.iter().map(|item| text(item, "/metadata/name").to_owned()));
            ensure!(at.is_empty() || at == version(&page), "pages at {at} and {}", version(&page));
            version(&page).clone_into(&mut at);
            text(&page, "/metadata/continue").clone_into(&mut token);
            if token.is_empty() {
                break;
            }
        }
        ensure!(
            paged.len() == all.len() && paged.is_sorted() && paged.iter().all(|name| all.contains(name)),
            "{paged:?}"
        );
        Ok(())
    }
}

fn form(kind: &str) -> String {
    format!("application/json;as={kind};v=v1;g=meta.k8s.io")
}

pub(super) fn names(list: &Value) -> BTreeSet<String> {
    let items = list["items"].as_array().into_iter().flatten();
    items.map(|item| text(item, "/metadata/name").to_owned()).collect()
}
