//! What people read about types and fields, out of the doc comments of the crate that has the types: `kubectl explain`
//! shows it. The text is that crate's, so it is taken from there at every build and is not part of this repository.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use flate2::Compression;
use flate2::write::GzEncoder;

const CRATE: &str = "k8s-openapi";
const VERSION: &str = "v1_36";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let types = source()?.join("src").join(VERSION);
    println!("cargo::rerun-if-changed={}", types.display());
    let mut prose = BTreeMap::new();
    walk(&types, &mut prose)?;
    if prose.is_empty() {
        return Err(format!("{} has no generated types", types.display()).into());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo says where to write")?).join("prose.gz");
    let mut encoder = GzEncoder::new(fs::File::create(out)?, Compression::best());
    for text in prose.values() {
        encoder.write_all(text.as_bytes())?;
    }
    encoder.finish()?;
    Ok(())
}

/// Where cargo has the crate's source, be it fetched or vendored.
fn source() -> Result<PathBuf, Box<dyn Error>> {
    let output = Command::new(env::var_os("CARGO").ok_or("run by cargo")?)
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", &env::var("TARGET")?])
        .current_dir(env::var_os("CARGO_MANIFEST_DIR").ok_or("run by cargo")?)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists packages")?;
    let package = packages.iter().find(|package| package["name"] == CRATE).ok_or("a dependency is a package")?;
    let manifest = Path::new(package["manifest_path"].as_str().ok_or("a package has a manifest")?);
    Ok(manifest.parent().ok_or("a manifest is in a folder")?.to_owned())
}

fn walk(folder: &Path, prose: &mut BTreeMap<String, String>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, prose)?;
        } else if let Some((name, text)) = of_file(&fs::read_to_string(&path)?) {
            prose.insert(name, text);
        }
    }
    Ok(())
}

/// The definition's name, and its lines as `schema/mod.rs` has them.
fn of_file(source: &str) -> Option<(String, String)> {
    let name = source.lines().next()?.strip_prefix("// Generated from definition ")?.to_owned();
    let json_names: BTreeMap<&str, &str> = source.lines().filter_map(json_name).collect();
    let mut text = format!("={name}\n");
    let mut comment = Vec::new();
    let mut inside = false;
    for line in source.lines() {
        if let Some(words) = line.trim_start().strip_prefix("///") {
            comment.push(plain(words.strip_prefix(' ').unwrap_or(words)));
            continue;
        }
        if line.starts_with("#[") {
            continue;
        }
        let said = std::mem::take(&mut comment).join("\r");
        let said = said.trim_end_matches('\r');
        if !inside && (line.starts_with("pub struct ") || line.starts_with("pub enum ")) {
            text += &format!(" {said}\n");
            inside = true;
        } else if let Some(field) = line.strip_prefix("    pub ").and_then(|line| line.split(':').next())
            && let Some(json) = json_names.get(field.trim_start_matches("r#"))
            && !said.is_empty()
        {
            text += &format!("{json} {said}\n");
        } else if inside && line.starts_with('}') {
            break;
        }
    }
    Some((name, text))
}

/// `"hostIP" => Field::Key_host_ip,` names the field `host_ip`.
fn json_name(line: &str) -> Option<(&str, &str)> {
    let (json, field) = line.trim().strip_prefix('"')?.split_once("\" => Field::Key_")?;
    Some((field.trim_end_matches(','), json))
}

/// Doc comments are Markdown: the crate has escaped what would be markup.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some(next)) if next.is_ascii_punctuation() => {}
            _ => text.push(character),
        }
    }
    text
}
