//! The one write path: decode → default → mutate → validate → admit → store → watch.
//!
//! A kind is a [`ResourceDef`] and a short [`Strategy`]; [`Registry`] owns the order of the hooks, resourceVersion
//! conflicts, finalizers, generateName and dry-run; the API server sees only `dyn` [`Resource`].
//! Names no kind (`xtask layers` forbids `k8s_openapi::api` here). See README.md for the diagram.

// Every call here may answer with a Status; boxing it would cost more in noise than its 136 bytes do.
#![allow(clippy::result_large_err)]

pub mod admission;
mod admit;
mod codec;
mod create;
mod decode;
pub mod def;
mod delete;
mod erased;
mod failure;
mod identity;
mod metadata;
mod page;
mod patch;
mod read;
pub mod registry;
pub mod request;
pub mod resource;
mod scale;
mod select;
mod store;
pub mod strategy;
mod update;
mod watch;

pub use admission::{Admission, Attributes, Operation};
pub use def::{Column, Published, ResourceDef, Scope, SubresourceDef, Verb};
pub use registry::{Handlers, Registry};
pub use request::{
    Body, CreateOptions, DeleteOptions, FieldValidation, ListOptions, MediaType, Patch, Payload, RequestContext,
    UpdateOptions, UserInfo,
};
pub use resource::{Resource, SubresourceHandler};
pub use strategy::Strategy;
