//! The one write path: decode → default → mutate → validate → admit → store → watch.
//!
//! A kind is a [`ResourceDef`] and a short [`Strategy`]; [`Core`] owns the order of the hooks, resourceVersion
//! conflicts, finalizers, generateName and dry-run, compiled once for all kinds; [`Registry`] is its typed handle,
//! [`View`] another version of it; the API server sees only `dyn` [`Resource`].
//! Names no kind (`xtask layers` forbids `k8s_openapi::api` here). See README.md for the diagram.

// Every call here may answer with a Status; boxing it would cost more in noise than its 136 bytes do.
#![allow(clippy::result_large_err)]

pub mod admission;
mod admit;
mod chain;
mod codec;
mod core;
mod create;
pub mod custom;
mod decode;
pub mod def;
mod delete;
mod dialect;
mod duplicates;
mod erased;
mod failure;
mod forward;
mod identity;
mod intern;
mod kind;
pub mod managed;
mod metadata;
mod migrate;
mod object;
mod ownership;
mod page;
mod patch;
mod pending;
mod read;
pub mod registry;
pub mod request;
pub mod resource;
mod scale;
mod select;
mod store;
pub mod strategy;
mod unstored;
mod update;
mod view;
mod watch;
pub mod yaml;

pub use crate::core::Core;
pub use admission::{Admission, Attributes, Operation};
pub use chain::{Chain, Observer, Step};
pub use custom::{Custom, CustomSchema};
pub use def::{Column, Published, ResourceDef, Scope, SubresourceDef, Verb};
pub use identity::uid as new_uid;
pub use intern::{intern, intern_columns, intern_texts};
pub use migrate::migrate;
pub use patch::json as json_patch;
pub use registry::{Handlers, Registry};
pub use request::{
    Body, CreateOptions, DeleteOptions, FieldValidation, ListOptions, MediaType, Patch, Payload, RequestContext,
    UpdateOptions, UserInfo,
};
pub use resource::{Answer, Resource, SubresourceHandler};
pub use scale::ScalePaths;
pub use strategy::Strategy;
pub use view::{Conversion, Renamed, View};
