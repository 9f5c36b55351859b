//! Small facts of RBAC that several crates read.

/// The API group of roles and bindings, and of the users and groups that bindings name.
pub const GROUP: &str = "rbac.authorization.k8s.io";
