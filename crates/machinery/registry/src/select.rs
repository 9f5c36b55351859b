//! Which objects a list or a watch is about.

use base_meta::Status;
use base_meta::selector::{FieldSelector, LabelSelector};
use machinery_storage::{Meta, Object};

use crate::dialect::Dialect;
use crate::{ListOptions, ResourceDef};

/// Selectors, checked against what the kind offers.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Filter {
    /// Terms name the dialect's fields; the filter looks at stored objects.
    pub(crate) fn new(dialect: &Dialect, options: &ListOptions) -> Result<Self, Status> {
        let def = &dialect.def;
        let mut fields = options.fields.clone();
        for term in &mut fields.terms {
            let field = term.field.as_str();
            let known = field == "metadata.name"
                || (field == "metadata.namespace" && def.namespaced())
                || def.fields.contains(&field);
            if !known {
                return Err(Status::bad_request(unknown_field(def, field)));
            }
            if let std::borrow::Cow::Owned(stored) = dialect.field(field) {
                term.field = stored;
            }
        }
        Ok(Self { labels: options.labels.clone(), fields })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.requirements.is_empty() && self.fields.terms.is_empty()
    }

    /// The one object this can select, where `metadata.name=` says so.
    pub(crate) fn name(&self) -> Option<&str> {
        self.equals("metadata.name")
    }

    /// The one namespace this can select.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.equals("metadata.namespace")
    }

    fn equals(&self, field: &str) -> Option<&str> {
        let term = self.fields.terms.iter().find(|term| term.equals && term.field == field)?;
        Some(term.value.as_str()).filter(|value| !value.is_empty())
    }

    pub(crate) fn matches(&self, object: &Object) -> bool {
        let meta = &object.meta;
        self.labels.matches(|key| meta.labels.get(key).map(|value| &**value))
            && self.fields.matches(|field| field_value(meta, field))
    }
}

fn field_value<'a>(meta: &'a Meta, field: &str) -> Option<&'a str> {
    match field {
        "metadata.name" => Some(&meta.name),
        "metadata.namespace" => meta.namespace.as_deref(),
        _ => meta.fields.iter().find(|(name, _)| *name == field).map(|(_, value)| &**value),
    }
}

fn unknown_field(def: &ResourceDef, field: &str) -> String {
    if def.fields.is_empty() {
        format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    } else {
        format!("field label not supported: {field}")
    }
}
