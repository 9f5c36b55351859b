//! What a layer's source may not hold.

use super::scan::tokens;

/// The crates that talk to the kernel without a library between.
const UNSAFE: &[&str] = &["crates/base/sys/", "crates/node/oci/"];

pub(super) fn check(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let tokens = tokens(text);
    if !UNSAFE.iter().any(|folder| name.starts_with(folder))
        && tokens.iter().any(|token| matches!(*token, "unsafe" | "unsafe_code"))
    {
        problems.push(format!("{name}: unsafe code belongs in base/sys and node/oci"));
    }
    // A test of generic code needs some kind to test it with.
    if name.starts_with("crates/machinery/") && !is_test_file(name) {
        let code = (0..tokens.len()).find(|at| starts_test_module(&tokens[*at..]));
        if names_a_kind(&tokens[..code.unwrap_or(tokens.len())]) {
            problems.push(format!("{name}: machinery names no kind: no path of `api` or `k8s_openapi::api`"));
        }
    }
    problems
}

fn is_test_file(name: &str) -> bool {
    name.contains("/tests/") || name.ends_with("/tests.rs") || name.ends_with("_tests.rs")
}

/// A `#[cfg(test)]`, or one that mentions it, before a module: by our habit, the end of the code proper.
fn starts_test_module(tokens: &[&str]) -> bool {
    let ["#", "[", "cfg", "(", condition @ ..] = tokens else { return false };
    let Some(end) = condition.iter().position(|token| *token == "]") else { return false };
    condition[..end].contains(&"test") && condition.get(end + 1) == Some(&"mod")
}

/// A path that begins with `api::`, or with `k8s_openapi::api`, also inside a group of a `use`.
fn names_a_kind(tokens: &[&str]) -> bool {
    let starts_path = |at: usize| at == 0 || tokens[at - 1] != "::";
    (0..tokens.len()).any(|at| match &tokens[at..] {
        ["k8s_openapi", "::", "api", ..] => true,
        ["k8s_openapi", "::", "{", group @ ..] => first_names(group).contains(&"api"),
        ["api", "::", ..] => starts_path(at) && at > 0 && matches!(tokens[at - 1], "use" | "(" | "<" | "&" | "=" | ":"),
        _ => false,
    })
}

/// The first name of every path of a group.
fn first_names<'a>(group: &[&'a str]) -> Vec<&'a str> {
    let mut depth = 0;
    let mut names = Vec::new();
    let mut expected = true;
    for token in group {
        match *token {
            "{" => depth += 1,
            "}" if depth == 0 => break,
            "}" => depth -= 1,
            "," if depth == 0 => expected = true,
            name if expected && depth == 0 => {
                names.push(name);
                expected = false;
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machinery_names_no_kind() {
        for bad in [
            "use k8s_openapi::api::core::v1::Pod;",
            "use k8s_openapi::{Metadata, api::core::v1::Pod};",
            "fn f(pod: &k8s_openapi::api::core::v1::Pod) {}",
            "use api::schema;",
        ] {
            assert_eq!(check("crates/machinery/registry/src/lib.rs", bad).len(), 1, "{bad}");
            assert!(check("crates/control/resources/src/lib.rs", bad).is_empty(), "{bad}");
        }
        for good in [
            "use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;",
            "use k8s_openapi::{Metadata, apimachinery::{api, pkg}};",
            "use kube::api::Api;",
            "// use api::schema\nfn f() {}",
            "fn f() {}\n#[cfg(test)]\nmod tests { use k8s_openapi::api::core::v1::ConfigMap; }",
        ] {
            assert!(check("crates/machinery/registry/src/lib.rs", good).is_empty(), "{good}");
        }
        assert!(check("crates/machinery/registry/src/tests.rs", "use k8s_openapi::api::core::v1::Pod;").is_empty());
    }

    #[test]
    fn unsafe_code_has_its_places() {
        let code = "fn f() { unsafe { g() } }";
        assert!(check("crates/base/sys/src/lib.rs", code).is_empty());
        assert_eq!(check("crates/net/proxy/src/lib.rs", code).len(), 1);
        assert_eq!(check("crates/net/proxy/src/lib.rs", "#![allow(unsafe_code)]").len(), 1);
        assert!(check("crates/net/proxy/src/lib.rs", "#![doc = \"unsafe\"] // unsafe").is_empty());
    }
}
