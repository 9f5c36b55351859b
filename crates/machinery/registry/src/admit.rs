//! Runs the admission chain over one write.

use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

use base_meta::{Status, schema};
use serde_json::Value;

use crate::codec::{Stored, plain};
use crate::core::Core;
use crate::object::Erased;
use crate::{Admission, Attributes, Operation, RequestContext};

/// The write as plug-ins are told of it.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) ctx: &'a RequestContext,
    pub(crate) operation: Operation,
    pub(crate) name: &'a str,
    pub(crate) dry_run: bool,
}

/// Tells whether plug-ins have changed a value, without a copy of it.
fn fingerprint(value: &Value) -> u64 {
    static KEYS: LazyLock<foldhash::quality::RandomState> = LazyLock::new(Default::default);
    KEYS.hash_one(value)
}

impl Core {
    fn chain(&self, asked: Asked<'_>) -> Vec<Arc<dyn Admission>> {
        let subresource = asked.ctx.subresource.as_deref();
        self.admission
            .iter()
            .filter(|plugin| plugin.handles(&self.gvr, subresource, asked.operation))
            .cloned()
            .collect()
    }

    /// Lets every plug-in that looks at such writes change the object; typed anew only where one did. `seen` is shown
    /// the object as the client wants it.
    pub(crate) async fn mutate<T: Send>(
        &self,
        asked: Asked<'_>,
        object: Box<dyn Erased>,
        old: Option<&Stored>,
        seen: impl FnOnce(&Value) -> Result<T, Status> + Send,
    ) -> Result<(Box<dyn Erased>, T), Status> {
        let mut value = plain(&*object)?;
        schema::normalise(self.def().schema, &mut value);
        let seen = seen(&value)?;
        let chain = self.chain(asked);
        if chain.is_empty() {
            return Ok((object, seen));
        }
        let old = old.map(|old| self.value_of(old)).transpose()?;
        let attributes = self.attributes(asked, old);
        let before = fingerprint(&value);
        for plugin in chain {
            plugin.mutate(&attributes, &mut value).await?;
        }
        let object = if fingerprint(&value) == before { object } else { self.typed_value(value)? };
        Ok((object, seen))
    }

    /// `object` is `None` for a deletion.
    pub(crate) async fn admit(
        &self,
        asked: Asked<'_>,
        object: Option<&Value>,
        old: Option<&Stored>,
    ) -> Result<(), Status> {
        let chain = self.chain(asked);
        if chain.is_empty() {
            return Ok(());
        }
        let old = old.map(|old| self.value_of(old)).transpose()?;
        let attributes = self.attributes(asked, old);
        for plugin in chain {
            plugin.validate(&attributes, object).await?;
        }
        Ok(())
    }

    fn attributes<'a>(&'a self, asked: Asked<'a>, old: Option<&'a Value>) -> Attributes<'a> {
        let Asked { ctx, operation, name, dry_run } = asked;
        Attributes { ctx, operation, gvk: &self.def().gvk, gvr: &self.gvr, name, dry_run, old }
    }
}
