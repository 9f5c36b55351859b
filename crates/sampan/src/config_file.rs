//! `/etc/sampan/config.yaml`: the same keys as the options of `sampan server` or `sampan agent`, below the environment and the command line.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_norway::Value;

const PATH: &str = "/etc/sampan/config.yaml";

/// The process's arguments with the file's options put in front of the user's own.
pub fn arguments() -> Result<Vec<String>> {
    let own: Vec<String> = std::env::args().collect();
    let role = |argument: &String| argument == "server" || argument == "agent";
    let Some(role) = own.iter().position(role) else { return Ok(own) };
    let text = match std::fs::read_to_string(Path::new(PATH)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(own),
        Err(error) => return Err(error).with_context(|| format!("reading {PATH}")),
    };
    let options = options(&text, |name| std::env::var_os(name).is_some()).with_context(|| format!("in {PATH}"))?;
    let (before, after) = own.split_at(role + 1);
    Ok(before.iter().cloned().chain(options).chain(after.iter().cloned()).collect())
}

/// The file's options as arguments, but those that the environment sets.
fn options(text: &str, in_environment: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let value: Value = serde_norway::from_str(text)?;
    let entries = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Mapping(entries) => entries,
        _ => bail!("expected a mapping of option names to values"),
    };
    let mut options = Vec::new();
    for (key, value) in entries {
        let Value::String(key) = key else { bail!("an option's name must be text") };
        if in_environment(&format!("SAMPAN_{}", key.to_uppercase().replace('-', "_"))) {
            continue;
        }
        match value {
            Value::Bool(true) => options.push(format!("--{key}")),
            Value::Bool(false) | Value::Null => {}
            Value::String(text) => options.push(format!("--{key}={text}")),
            Value::Number(number) => options.push(format!("--{key}={number}")),
            _ => bail!("the value of {key} must be text, a number or a boolean"),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_over_the_file() {
        let text = "node-name: one\nhttps-listen-port: 7443\ndisable-agent: true\nwrite-kubeconfig: null\n";
        let found = options(text, |name| name == "SAMPAN_NODE_NAME").expect("valid");
        assert_eq!(found, ["--https-listen-port=7443", "--disable-agent"]);
        assert!(options("", |_| false).expect("an empty file is fine").is_empty());
    }

    #[test]
    fn what_is_not_an_option_is_named() {
        let error = options("node-name: [a]", |_| false).expect_err("refused");
        assert!(error.to_string().contains("node-name"));
        assert!(options("- a", |_| false).is_err());
    }
}
