//! Keys and values of labels; annotation keys and resource names follow the key's form.

use super::{bracketed, dns1123_subdomain, pattern};

const KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const MAX: usize = 63;
const KEY_RULE: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const KEY_EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn shape(text: &str) -> bool {
    bracketed(text, alphanumeric, |byte| alphanumeric(byte) || matches!(byte, b'-' | b'_' | b'.'))
}

// Label formats count bytes in their message where DNS formats say characters: upstream's two generations.
fn too_long(part: &str) -> String {
    format!("{part}must be no more than {MAX} bytes")
}

/// `[prefix/]name`.
pub fn label_key(key: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let name = match key.split_once('/') {
        None => key,
        Some((_, rest)) if rest.contains('/') => {
            let rule = pattern(KEY_RULE, KEY, KEY_EXAMPLES);
            let suffix = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {rule} {suffix}")];
        }
        Some(("", name)) => {
            problems.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            problems.extend(dns1123_subdomain(prefix).into_iter().map(|problem| format!("prefix part {problem}")));
            name
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > MAX {
        problems.push(too_long("name part "));
    }
    if !shape(name) {
        problems.push(format!("name part {}", pattern(KEY_RULE, KEY, KEY_EXAMPLES)));
    }
    problems
}

/// The same form under its other name.
pub fn qualified_name(name: &str) -> Vec<String> {
    label_key(name)
}

pub fn label_value(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > MAX {
        problems.push(too_long(""));
    }
    if !value.is_empty() && !shape(value) {
        problems.push(pattern(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
             and must start and end with an alphanumeric character",
            VALUE,
            &["MyValue", "my_value", "12345"],
        ));
    }
    problems
}
