//! Which capabilities a container gets; pure.

/// Docker's and containerd's defaults.
const DEFAULT: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// By bit number.
const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) capabilities: Vec<&'static str>,
    /// Asked for, but not ours to give.
    pub(super) missing: Vec<&'static str>,
}

/// `permitted` is the kernel's bit set of what this process may pass on. A name that no kernel knows is an error.
pub(super) fn grant(asked: &crate::spec::Capabilities, privileged: bool, permitted: u64) -> Result<Granted, String> {
    let mut wanted: Vec<&'static str> = if privileged { ALL.to_vec() } else { DEFAULT.to_vec() };
    if !privileged {
        if asked.add.iter().any(|c| is_all(c)) {
            wanted = ALL.to_vec();
        }
        if asked.drop.iter().any(|c| is_all(c)) {
            wanted.clear();
        }
        for name in asked.add.iter().filter(|c| !is_all(c)) {
            let name = known(name)?;
            if !wanted.contains(&name) {
                wanted.push(name);
            }
        }
        for name in asked.drop.iter().filter(|c| !is_all(c)) {
            let name = known(name)?;
            wanted.retain(|c| *c != name);
        }
    }
    let (capabilities, missing) = wanted
        .into_iter()
        .partition(|name| ALL.iter().position(|c| c == name).is_some_and(|bit| permitted & (1 << bit) != 0));
    Ok(Granted { capabilities, missing })
}

fn is_all(name: &str) -> bool {
    name.eq_ignore_ascii_case("ALL")
}

fn known(name: &str) -> Result<&'static str, String> {
    let upper = name.to_ascii_uppercase();
    ALL.into_iter()
        .find(|c| *c == upper || c.strip_prefix("CAP_") == Some(upper.as_str()))
        .ok_or_else(|| format!("unknown capability {name:?}"))
}

/// The permitted set in the text of `/proc/self/status`.
pub(super) fn permitted(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapPrm:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::spec::Capabilities;

    fn asked(add: &[&str], drop: &[&str]) -> Capabilities {
        let owned = |names: &[&str]| names.iter().map(|s| (*s).to_owned()).collect();
        Capabilities { add: owned(add), drop: owned(drop) }
    }

    #[test]
    fn changes_apply_to_the_defaults() {
        let granted = grant(&asked(&["NET_ADMIN"], &["cap_kill"]), false, u64::MAX).unwrap();
        assert!(granted.capabilities.contains(&"CAP_NET_ADMIN"));
        assert!(!granted.capabilities.contains(&"CAP_KILL"));
        assert_eq!(granted.capabilities.len(), 14);
    }

    #[test]
    fn all_can_be_dropped_and_some_kept() {
        let granted = grant(&asked(&["NET_BIND_SERVICE"], &["ALL"]), false, u64::MAX).unwrap();
        assert_eq!(granted.capabilities, ["CAP_NET_BIND_SERVICE"]);
    }

    #[test]
    fn what_we_lack_is_named() {
        let without_resource = !(1 << 24);
        let granted = grant(&asked(&[], &[]), true, without_resource).unwrap();
        assert_eq!(granted.missing, ["CAP_SYS_RESOURCE"]);
        assert_eq!(granted.capabilities.len(), 40);
    }

    #[test]
    fn unknown_names_are_refused() {
        assert_eq!(grant(&asked(&["FLY"], &[]), false, 0), Err("unknown capability \"FLY\"".to_owned()));
        assert_eq!(permitted("nothing here"), 0);
        assert_eq!(permitted("Name:\tx\nCapPrm:\t000001fffeffffff\n"), 0x01ff_feff_ffff);
    }
}
