//! The table's text; `api::schema` reads it.

use std::fmt::Write as _;

use anyhow::ensure;

use super::expand::{Field, Type};
use super::resolve::Shape;

pub(super) fn table(types: &[Type]) -> anyhow::Result<String> {
    let mut text =
        String::from("# Written by `cargo xtask schema` from upstream's schema facts (v1.36); not edited by hand.\n");
    for this in types {
        text.push_str(&this.name);
        if this.atomic {
            text.push_str(" atomic");
        }
        for kind in &this.kinds {
            write!(text, " kind={kind}")?;
        }
        text.push('\n');
        for field in &this.fields {
            line(&mut text, field)?;
        }
    }
    Ok(text)
}

fn line(text: &mut String, field: &Field) -> anyhow::Result<()> {
    let facts = &field.facts;
    let mut flags = String::new();
    for (set, flag) in [(field.pointer, '*'), (facts.omitempty, 'o'), (facts.omitzero, 'z'), (field.required, 'r')] {
        if set {
            flags.push(flag);
        }
    }
    if flags.is_empty() {
        flags.push('-');
    }
    write!(text, " {} {} {flags} ", facts.json, field.resolved.shape)?;
    if field.outside_proto {
        text.push('0');
    } else {
        ensure!(field.outer.len() <= 2, "{} is inlined three messages deep", facts.json);
        for outer in &field.outer {
            write!(text, "{outer}.")?;
        }
        write!(text, "{}", facts.proto)?;
    }
    let mut fact = |name: &str, value: &str| -> anyhow::Result<()> {
        ensure!(
            !value.contains(['~', '\n']),
            "{name} of {} has a character that the table uses: {value:?}",
            facts.json
        );
        if !value.is_empty() {
            write!(text, " {name}={}", value.replace(' ', "~"))?;
        }
        Ok(())
    };
    fact("list", facts.list_type.as_deref().unwrap_or_default())?;
    fact("keys", &facts.list_map_keys.join(","))?;
    fact("map", facts.map_type.as_deref().or(facts.struct_type.as_deref()).unwrap_or_default())?;
    fact("patch", facts.patch_strategy.as_deref().unwrap_or_default())?;
    fact("merge", facts.patch_merge_key.as_deref().unwrap_or_default())?;
    fact("default", default(facts.default.as_deref().unwrap_or_default())?)?;
    fact("enum", &field.resolved.values.join("|"))?;
    if field.resolved.go != derived(&field.resolved.shape) {
        fact("go", &field.resolved.go)?;
    }
    text.push('\n');
    Ok(())
}

/// Defaults are JSON, but for references to Go constants.
fn default(text: &str) -> anyhow::Result<&str> {
    Ok(match text {
        "ref(AzureDataDiskCachingReadWrite)" => "\"ReadWrite\"",
        "ref(AzureSharedBlobDisk)" => "\"Shared\"",
        other => {
            ensure!(!other.starts_with("ref("), "no value is known for the default {other}");
            other
        }
    })
}

/// Go's text for a shape without named scalars, which the reader derives itself.
fn derived(shape: &Shape) -> String {
    match shape {
        Shape::Scalar(name) => match *name {
            "bytes" => "[]uint8",
            "float" => "float64",
            "quantity" => "resource.Quantity",
            "intstr" => "intstr.IntOrString",
            "time" => "v1.Time",
            "micro" => "v1.MicroTime",
            "duration" => "v1.Duration",
            "any" => "runtime.RawExtension",
            other => other,
        }
        .to_owned(),
        Shape::Object(name) => {
            let mut parts = name.rsplitn(3, '.');
            let name = parts.next().unwrap_or_default();
            format!("{}.{name}", parts.next().unwrap_or_default())
        }
        Shape::List(element) => format!("[]{}", derived(element)),
        Shape::Map(value) => format!("map[string]{}", derived(value)),
    }
}
