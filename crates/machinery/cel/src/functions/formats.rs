//! Named formats: `format.dns1123Label().validate(name)`.

use base_meta::names;
use base64::Engine as _;

use super::Result;
use crate::value::Val;

const FORMATS: &[&str] = &[
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

pub fn call(name: &str, args: &[Val]) -> Option<Result> {
    let find = |name: &str| FORMATS.iter().find(|format| **format == name);
    Some(Ok(match (name, args) {
        ("format.named", [Val::String(name)]) => find(name).map_or(Val::NONE, |format| Val::some(Val::Format(format))),
        ("validate", [Val::Format(format), Val::String(text)]) => match problems(format, text) {
            problems if problems.is_empty() => Val::NONE,
            problems => Val::some(Val::list(problems.into_iter().map(Val::from).collect())),
        },
        (name, []) => Val::Format(find(name.strip_prefix("format.")?)?),
        _ => return None,
    }))
}

fn problems(format: &str, text: &str) -> Vec<String> {
    // A prefix may end in a dash, for a generated name to follow.
    let prefix = || if text.ends_with('-') { format!("{}a", text) } else { text.to_owned() };
    let must = |good: bool, problem: &str| if good { Vec::new() } else { vec![problem.to_owned()] };
    match format {
        "dns1123Label" => names::dns1123_label(text),
        "dns1123Subdomain" => names::dns1123_subdomain(text),
        "dns1035Label" => names::dns1035_label(text),
        "qualifiedName" => names::qualified_name(text),
        "dns1123LabelPrefix" => names::dns1123_label(&prefix()),
        "dns1123SubdomainPrefix" => names::dns1123_subdomain(&prefix()),
        "dns1035LabelPrefix" => names::dns1035_label(&prefix()),
        "labelValue" => names::label_value(text),
        "uri" => must(url::Url::parse(text).is_ok() || text.starts_with('/'), "invalid URI"),
        "uuid" => {
            let parts: Vec<usize> = text.split('-').map(str::len).collect();
            let hex = text.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
            must(hex && parts == [8, 4, 4, 4, 12], "does not match the UUID format")
        }
        "byte" => must(base64::engine::general_purpose::STANDARD.decode(text).is_ok(), "invalid base64"),
        "date" => must(text.parse::<jiff::civil::Date>().is_ok(), "invalid date"),
        _ => must(text.parse::<jiff::Timestamp>().is_ok(), "invalid datetime"),
    }
}
