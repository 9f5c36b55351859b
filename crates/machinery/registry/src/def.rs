//! The one table that routing, discovery, OpenAPI and printer columns read.

use std::borrow::Cow;
use std::sync::Arc;

use base_meta::schema::SchemaRef;
use base_meta::{Gvk, Gvr};
use serde_json::Value;

type Text = Cow<'static, str>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// In the order discovery lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

impl Verb {
    pub const ALL: &'static [Self] = &[
        Self::Create,
        Self::Delete,
        Self::DeleteCollection,
        Self::Get,
        Self::List,
        Self::Patch,
        Self::Update,
        Self::Watch,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }
}

/// A column of `kubectl get`: `metav1.TableColumnDefinition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `date`, …
    pub kind: &'static str,
    /// `name` for the first column, else empty.
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

/// A subresource as discovery shows it. `status` and `scale` are served by generic adapters; any other name by
/// the [`SubresourceHandler`](crate::SubresourceHandler) its resource gives for it.
#[derive(Clone, Debug)]
pub struct SubresourceDef {
    pub name: &'static str,
    /// The kind its body has (`autoscaling/v1 Scale`, `v1 Binding`, `v1 PodExecOptions`, the parent's for status).
    pub gvk: Gvk,
    pub verbs: &'static [Verb],
}

/// The schemas a kind is published with where the schema table does not say everything about it: a custom resource's.
/// Complete definitions, with their `x-kubernetes-group-version-kind`; references would have nothing to refer to.
#[derive(Debug)]
pub struct Published {
    /// In `/openapi/v2`, whose readers (older kubectl) know less.
    pub v2: Value,
    pub v3: Value,
}

#[derive(Clone, Debug)]
pub struct ResourceDef {
    pub gvk: Gvk,
    pub plural: Text,
    pub singular: Text,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub scope: Scope,
    pub verbs: &'static [Verb],
    pub subresources: Vec<SubresourceDef>,
    pub columns: &'static [Column],
    /// Selectable fields beyond `metadata.name` and `metadata.namespace`.
    pub fields: &'static [&'static str],
    /// DELETE answers with the object as it was, not with a `Status`.
    pub answers_deleted: bool,
    /// Sent as a warning with every answer: `v1 Endpoints is deprecated in v1.33+; use …`.
    pub deprecation: Option<Text>,
    pub schema: SchemaRef,
    /// The kind that upstream's store holds these objects as, where it is another than `gvk`: what discovery's
    /// `storageVersionHash` tells.
    pub stored_as: Option<Gvk>,
    /// In place of what `schema` would be published as; its name stays the definition's.
    pub published: Option<Arc<Published>>,
}

impl ResourceDef {
    pub fn gvr(&self) -> Gvr {
        self.gvk.group_version().with_resource(self.plural.clone())
    }

    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether objects of this kind have a protobuf encoding: custom resources have none.
    pub fn has_protobuf(&self) -> bool {
        self.schema.root_type().fields.iter().any(|field| field.proto != 0)
    }

    pub fn subresource(&self, name: &str) -> Option<&SubresourceDef> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// `/registry/apps/deployments/`; the core group has no group segment, as upstream's etcd layout.
    pub fn storage_prefix(&self) -> String {
        if self.gvk.group.is_empty() {
            format!("/registry/{}/", self.plural)
        } else {
            format!("/registry/{}/{}/", self.gvk.group, self.plural)
        }
    }
}
