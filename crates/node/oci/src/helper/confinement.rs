//! The seccomp filter of a further process. libcontainer loads the one of a container's first process only; here the process
//! is given what loading takes, loads the filter itself as its last step, and gives that up.

use libcontainer::capabilities::{drop_privileges, reset_effective};
use libcontainer::oci_spec::runtime::{LinuxCapabilities, LinuxSeccomp};
use libcontainer::seccomp::initialize_seccomp;
use libcontainer::syscall::syscall::create_syscall;
use serde_json::{Value, json};

/// To load a filter, and to give up both.
const NEEDED: [&str; 2] = ["CAP_SYS_ADMIN", "CAP_SETPCAP"];

#[derive(Clone)]
pub(super) struct Confinement {
    seccomp: LinuxSeccomp,
    capabilities: LinuxCapabilities,
}

impl Confinement {
    /// What the container's filter, if it has one, makes of the process: it begins with more than it will keep.
    pub(super) fn of(config: &Value, process: &mut Value) -> Result<Option<Self>, serde_json::Error> {
        let seccomp = &config["linux"]["seccomp"];
        if seccomp.is_null() {
            return Ok(None);
        }
        let seccomp = serde_json::from_value(seccomp.clone())?;
        let capabilities = serde_json::from_value(process["capabilities"].clone())?;
        for set in ["bounding", "effective", "permitted"] {
            let Some(set) = process["capabilities"][set].as_array_mut() else { continue };
            for needed in NEEDED {
                if !set.iter().any(|own| own == needed) {
                    set.push(json!(needed));
                }
            }
        }
        Ok(Some(Self { seccomp, capabilities }))
    }

    /// In the words of an exec's failure.
    pub(super) fn enter(&self) -> Result<(), String> {
        initialize_seccomp(&self.seccomp).map_err(|error| format!("exec: {}", crate::error::chain(&error)))?;
        let syscall = create_syscall();
        reset_effective(&*syscall)
            .and_then(|()| drop_privileges(&self.capabilities, &*syscall))
            .map_err(|error| format!("exec: {}", crate::error::chain(&error)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_process_begins_with_what_loading_takes_and_keeps_its_own() {
        let own = json!({"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]});
        let mut process = json!({"capabilities": own});
        assert!(Confinement::of(&json!({"linux": {}}), &mut process).unwrap().is_none());
        assert_eq!(process["capabilities"], own);
        let config = json!({"linux": {"seccomp": crate::seccomp::default(&["CAP_CHOWN"])}});
        let confinement = Confinement::of(&config, &mut process).unwrap().unwrap();
        assert_eq!(process["capabilities"]["effective"], json!(["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_SETPCAP"]));
        assert_eq!(serde_json::to_value(&confinement.capabilities).unwrap()["effective"], json!(["CAP_CHOWN"]));
    }
}
