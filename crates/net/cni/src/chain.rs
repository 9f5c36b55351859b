//! All plug-ins of one network, asked in their order.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::answer::{self, AnswerError};
use crate::list::{NetworkList, Plugin};
use crate::program::{CallError, Verb, call};
use crate::record::{Connected, Record};

#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    // As libcni words it: people look for these.
    #[error("plugin type={kind:?} failed ({})", .verb.to_lowercase())]
    Call {
        kind: String,
        verb: &'static str,
        #[source]
        source: CallError,
    },
    #[error("plugin type={kind:?} failed (add)")]
    Answer {
        kind: String,
        #[source]
        source: AnswerError,
    },
}

impl ChainError {
    /// One that says that nothing can be connected for now.
    pub(crate) fn is_unavailable(&self) -> bool {
        const UNAVAILABLE: [u64; 2] = [50, 51];
        matches!(self, Self::Call { source: CallError::Refused { code, .. }, .. } if UNAVAILABLE.contains(code))
    }
}

pub(crate) struct Chain<'a> {
    pub(crate) list: &'a NetworkList,
    /// Where the plug-ins' programs are, the first that has one counts.
    pub(crate) folders: &'a [PathBuf],
}

impl Chain<'_> {
    /// Returns the last one's result.
    pub(crate) async fn add(&self, record: &Record) -> Result<Value, ChainError> {
        let mut result = None;
        for plugin in &self.list.plugins {
            let config = self.config(plugin, &record.capabilities, result.as_ref());
            let text = self.ask(plugin, Verb::Add, Some(record), config).await?;
            let parsed = answer::parse(&text);
            result = Some(parsed.map_err(|source| ChainError::Answer { kind: plugin.kind.clone(), source })?);
        }
        Ok(result.unwrap_or_default())
    }

    /// From the last to the first; every one is asked, also where another has failed.
    pub(crate) async fn del(&self, record: &Record) -> Result<(), ChainError> {
        let result = match &record.connected {
            Connected::Done { result } if self.list.version.tells_del_the_result() => Some(result),
            _ => None,
        };
        let mut failed = None;
        for plugin in self.list.plugins.iter().rev() {
            let config = self.config(plugin, &record.capabilities, result);
            if let Err(error) = self.ask(plugin, Verb::Del, Some(record), config).await {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Nothing is asked where the network does not want it or its version has no such thing.
    pub(crate) async fn check(&self, record: &Record) -> Result<(), ChainError> {
        let Connected::Done { result } = &record.connected else { return Ok(()) };
        if !self.list.check || !self.list.version.checks() {
            return Ok(());
        }
        for plugin in &self.list.plugins {
            let config = self.config(plugin, &record.capabilities, Some(result));
            self.ask(plugin, Verb::Check, Some(record), config).await?;
        }
        Ok(())
    }

    /// Whether pods can be connected.
    pub(crate) async fn status(&self) -> Result<(), ChainError> {
        if !self.list.version.has_status_and_gc() {
            return Ok(());
        }
        for plugin in &self.list.plugins {
            self.ask(plugin, Verb::Status, None, self.config(plugin, &Map::new(), None)).await?;
        }
        Ok(())
    }

    /// Frees whatever belongs to none of these sandboxes.
    pub(crate) async fn collect(&self, sandboxes: &[String]) -> Result<(), ChainError> {
        if !self.list.collect || !self.list.version.has_status_and_gc() {
            return Ok(());
        }
        let valid = sandboxes.iter().map(|sandbox| json!({ "containerID": sandbox, "ifname": crate::INTERFACE }));
        let valid: Value = valid.collect();
        for plugin in &self.list.plugins {
            let mut config = self.config(plugin, &Map::new(), None);
            config.insert("cni.dev/valid-attachments".into(), valid.clone());
            self.ask(plugin, Verb::Gc, None, config).await?;
        }
        Ok(())
    }

    async fn ask(
        &self,
        plugin: &Plugin,
        verb: Verb,
        about: Option<&Record>,
        config: Map<String, Value>,
    ) -> Result<Vec<u8>, ChainError> {
        let config = Value::from(config).to_string();
        let answer = call(self.folders, &plugin.kind, verb, about, config.as_bytes()).await;
        answer.map_err(|source| ChainError::Call { kind: plugin.kind.clone(), verb: verb.word(), source })
    }

    /// Its own part of the list with the network's name and version, what it asked to be told, and what came before it.
    fn config(&self, plugin: &Plugin, told: &Map<String, Value>, result: Option<&Value>) -> Map<String, Value> {
        let mut config = plugin.config.clone();
        config.insert("name".into(), self.list.name.clone().into());
        config.insert("cniVersion".into(), self.list.version.to_string().into());
        for ours in ["cniVersions", "capabilities", "prevResult", "runtimeConfig"] {
            config.remove(ours);
        }
        let told = told.iter().filter(|(name, _)| plugin.capabilities.contains(*name));
        let told: Map<String, Value> = told.map(|(name, value)| (name.clone(), value.clone())).collect();
        if !told.is_empty() {
            config.insert("runtimeConfig".into(), told.into());
        }
        if let Some(result) = result {
            config.insert("prevResult".into(), result.clone());
        }
        config
    }
}
