//! Seccomp filters: the profile that containers have by default where they ask for it, and files in the same form.

mod profile;

use libcontainer::oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use profile::{ALLOWED, FAMILIES, PERSONALITIES, WITH_CAPABILITY};

/// Namespaces that `clone` may not make: all of them, in the flags' bits.
const CLONE_NEW: u64 = 0x7e02_0000;
const EPERM: u64 = 1;
const ENOSYS: u64 = 38;

#[derive(Debug, thiserror::Error)]
#[error("the seccomp profile is not in the form of the OCI runtime specification")]
pub struct BadProfile(#[from] serde_json::Error);

/// Checks a profile as an operator wrote it, and brings it into the form that the runtime takes.
///
/// # Errors
/// When it is not JSON of the OCI form; the cause says which field.
pub fn parse(text: &str) -> Result<Value, BadProfile> {
    let profile: LinuxSeccomp = serde_json::from_str(text)?;
    let mut profile = serde_json::to_value(profile)?;
    for rule in profile["syscalls"].as_array_mut().into_iter().flatten() {
        for condition in rule["args"].as_array_mut().into_iter().flatten() {
            swap_mask(condition);
        }
    }
    Ok(profile)
}

/// The specification's `value` is the mask and `valueTwo` what must come out; libcontainer reads them the other way round.
fn swap_mask(condition: &mut Value) {
    if condition["op"] == "SCMP_CMP_MASKED_EQ" {
        let (mask, result) = (condition["value"].take(), condition["valueTwo"].take());
        condition["value"] = if result.is_null() { json!(0) } else { result };
        condition["valueTwo"] = mask;
    }
}

/// The default profile for a container with these capabilities, in the form that the runtime takes.
pub(crate) fn default(capabilities: &[&str]) -> Value {
    let mut rules = vec![allow(ALLOWED, None)];
    rules.extend(FAMILIES.iter().map(|(op, family)| allow("socket", Some(condition(op, *family)))));
    rules.extend(PERSONALITIES.iter().map(|persona| allow("personality", Some(condition("SCMP_CMP_EQ", *persona)))));
    rules.push(allow(ARCHITECTURE.1, None));
    let may = |capability: &str| capabilities.contains(&capability);
    rules.extend(WITH_CAPABILITY.iter().filter(|(capability, _)| may(capability)).map(|(_, calls)| allow(calls, None)));
    if !may("CAP_SYS_ADMIN") {
        let mut plain = json!({"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": CLONE_NEW, "valueTwo": 0});
        swap_mask(&mut plain);
        rules.push(allow("clone", Some(plain)));
        // Its flags are in memory, where no filter looks; programs then try `clone`.
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": ARCHITECTURE.0,
        "syscalls": rules,
    })
}

fn allow(calls: &str, condition: Option<Value>) -> Value {
    let names: Vec<_> = calls.split_whitespace().collect();
    let mut rule = json!({"names": names, "action": "SCMP_ACT_ALLOW"});
    if let Some(condition) = condition {
        rule["args"] = json!([condition]);
    }
    rule
}

fn condition(op: &str, value: u64) -> Value {
    json!({"index": 0, "op": op, "value": value})
}

/// The machine's system call tables, and the calls that only it has.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: (&[&str], &str) =
    (&["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "arch_prctl modify_ldt");
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: (&[&str], &str) = (
    &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(profile: &Value) -> Vec<&str> {
        let rules = profile["syscalls"].as_array().unwrap().iter();
        rules.flat_map(|rule| rule["names"].as_array().unwrap()).map(|name| name.as_str().unwrap()).collect()
    }

    #[test]
    fn capabilities_open_the_calls_that_they_are_for() {
        let plain = default(&["CAP_SYS_CHROOT"]);
        for (call, allowed) in [("read", true), ("chroot", true), ("mount", false), ("bpf", false), ("clone3", true)] {
            assert_eq!(names(&plain).contains(&call), allowed, "{call}");
        }
        let admin = default(&["CAP_SYS_ADMIN"]);
        assert!(["mount", "unshare", "clone", "clone3"].iter().all(|call| names(&admin).contains(call)));
        assert!(!admin.to_string().contains("\"errnoRet\""), "nothing is answered by another error");
    }

    #[test]
    fn the_default_is_a_profile_and_names_each_call_once() {
        let profile = default(&["CAP_SYS_ADMIN", "CAP_BPF"]);
        serde_json::from_value::<LinuxSeccomp>(profile).unwrap();
        let mut calls: Vec<_> = ALLOWED.split_whitespace().collect();
        calls.sort_unstable();
        let count = calls.len();
        calls.dedup();
        assert_eq!(calls.len(), count);
    }

    #[test]
    fn masks_are_put_where_the_runtime_reads_them_and_bad_files_are_named() {
        let rule = |op: &str| {
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["clone"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 7, "valueTwo": 2, "op": op}]}]})
        };
        let parsed = parse(&rule("SCMP_CMP_MASKED_EQ").to_string()).unwrap();
        let condition = &parsed["syscalls"][0]["args"][0];
        assert_eq!((&condition["value"], &condition["valueTwo"]), (&json!(2), &json!(7)));
        let same = parse(&rule("SCMP_CMP_EQ").to_string()).unwrap();
        assert_eq!(same["syscalls"][0]["args"][0]["value"], 7);
        for bad in ["", "[]", "{}", r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#, &rule("SCMP_CMP_SO_SO").to_string()] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
