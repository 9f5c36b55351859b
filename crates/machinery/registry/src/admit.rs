//! Runs the admission chain over one write.

use std::sync::Arc;

use base_meta::Status;

use crate::codec::{Stored, plain};
use crate::{Admission, Attributes, Operation, Registry, RequestContext, Strategy};

/// The write as plug-ins are told of it.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) ctx: &'a RequestContext,
    pub(crate) operation: Operation,
    pub(crate) name: &'a str,
    pub(crate) dry_run: bool,
}

impl<S: Strategy> Registry<S> {
    fn chain(&self, asked: Asked<'_>) -> Vec<Arc<dyn Admission>> {
        let subresource = asked.ctx.subresource.as_deref();
        self.admission
            .iter()
            .filter(|plugin| plugin.handles(&self.gvr, subresource, asked.operation))
            .cloned()
            .collect()
    }

    /// Lets every plug-in that looks at such writes change the object.
    pub(crate) async fn mutate(
        &self,
        asked: Asked<'_>,
        object: S::Object,
        old: Option<&Stored<S::Object>>,
    ) -> Result<S::Object, Status> {
        let chain = self.chain(asked);
        if chain.is_empty() {
            return Ok(object);
        }
        let old = old.map(|old| plain(&old.typed)).transpose()?;
        let attributes = self.attributes(asked, old.as_ref());
        let mut value = plain(&object)?;
        for plugin in chain {
            plugin.mutate(&attributes, &mut value).await?;
        }
        self.typed_value(value)
    }

    /// `object` is `None` for a deletion.
    pub(crate) async fn admit(
        &self,
        asked: Asked<'_>,
        object: Option<&S::Object>,
        old: Option<&Stored<S::Object>>,
    ) -> Result<(), Status> {
        let chain = self.chain(asked);
        if chain.is_empty() {
            return Ok(());
        }
        let old = old.map(|old| plain(&old.typed)).transpose()?;
        let object = object.map(plain).transpose()?;
        let attributes = self.attributes(asked, old.as_ref());
        for plugin in chain {
            plugin.validate(&attributes, object.as_ref()).await?;
        }
        Ok(())
    }

    fn attributes<'a>(&'a self, asked: Asked<'a>, old: Option<&'a serde_json::Value>) -> Attributes<'a> {
        let Asked { ctx, operation, name, dry_run } = asked;
        Attributes { ctx, operation, gvk: &self.def.gvk, gvr: &self.gvr, name, dry_run, old }
    }
}
