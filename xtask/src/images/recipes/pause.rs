//! What a foreign container runtime runs in each sandbox: it holds the pod's namespaces and does nothing. Of the name that
//! containerd 1.6 looks for.

use serde_json::json;

use super::{PATH, Recipe};

pub fn recipe() -> Recipe {
    Recipe {
        name: "pause",
        tags: &["registry.k8s.io/pause:3.6"],
        packages: &["busybox-static"],
        finish: |_| Ok(()),
        config: |_| Ok(json!({"Env": [PATH], "Entrypoint": ["/usr/bin/busybox", "sleep", "infinity"]})),
    }
}
