//! All admission plug-ins of a server in the order they are asked, and who is told how long they took.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base_meta::{Gvr, Status};
use serde_json::Value;

use crate::strategy::Undo;
use crate::{Admission, Attributes, Operation};

/// What is asked of plug-ins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Mutate,
    Validate,
}

/// Is told of every step of every write.
pub trait Observer: Send + Sync {
    /// `plugin`: its name, or `None` for all that looked at the write together.
    fn admitted(&self, plugin: Option<&'static str>, step: Step, operation: Operation, rejected: bool, took: Duration);
}

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct Chain {
    plugins: Arc<[Arc<dyn Admission>]>,
    observer: Option<Arc<dyn Observer>>,
}

impl From<Vec<Arc<dyn Admission>>> for Chain {
    fn from(plugins: Vec<Arc<dyn Admission>>) -> Self {
        Self { plugins: plugins.into(), observer: None }
    }
}

impl Chain {
    pub fn observed(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// Those that look at such requests.
    pub(crate) fn of(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> Concerned<'_> {
        self.concerned(|plugin| plugin.handles(gvr, subresource, operation))
    }

    /// Those of them that reserve.
    pub(crate) fn reserving(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> Concerned<'_> {
        self.concerned(|plugin| plugin.reserves() && plugin.handles(gvr, subresource, operation))
    }

    fn concerned(&self, wanted: impl Fn(&dyn Admission) -> bool) -> Concerned<'_> {
        let plugins = self.plugins.iter().filter(|plugin| wanted(&***plugin)).collect();
        Concerned { plugins, observer: self.observer.as_deref() }
    }
}

pub(crate) struct Concerned<'c> {
    plugins: Vec<&'c Arc<dyn Admission>>,
    observer: Option<&'c dyn Observer>,
}

impl Concerned<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.plugins.is_empty()
    }

    async fn timed<T>(
        &self,
        plugin: Option<&'static str>,
        step: Step,
        operation: Operation,
        asked: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let Some(observer) = self.observer else { return asked.await };
        let began = Instant::now();
        let answer = asked.await;
        observer.admitted(plugin, step, operation, answer.is_err(), began.elapsed());
        answer
    }

    /// In order; all of them once more where one asks for it.
    pub(crate) async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let operation = attributes.operation;
        let all = async {
            loop {
                for plugin in &self.plugins {
                    let asked = plugin.mutate(attributes, object);
                    self.timed(Some(plugin.name()), Step::Mutate, operation, asked).await?;
                }
                if !attributes.rounds.begin_second() {
                    return Ok(());
                }
            }
        };
        self.timed(None, Step::Mutate, operation, all).await
    }

    /// `object` is `None` for a deletion.
    pub(crate) async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let operation = attributes.operation;
        let all = async {
            // What reserves has its say later.
            for plugin in &self.plugins {
                let asked = plugin.validate(attributes, object);
                match plugin.reserves() {
                    true => asked.await?,
                    false => self.timed(Some(plugin.name()), Step::Validate, operation, asked).await?,
                }
            }
            Ok(())
        };
        self.timed(None, Step::Validate, operation, all).await
    }

    /// What the write uses up, to be given back by [`give_back`] if nothing is stored.
    pub(crate) async fn reserve(&self, attributes: &Attributes<'_>, object: &Value) -> Result<Vec<Undo>, Status> {
        let mut taken = Vec::new();
        for plugin in &self.plugins {
            let asked = plugin.reserve(attributes, object);
            match self.timed(Some(plugin.name()), Step::Validate, attributes.operation, asked).await {
                Ok(undo) => taken.extend(undo),
                Err(status) => {
                    give_back(taken).await;
                    return Err(status);
                }
            }
        }
        Ok(taken)
    }
}

/// What was taken for a write that was not made.
pub(crate) async fn give_back(taken: Vec<Undo>) {
    for undo in taken {
        undo().await;
    }
}
