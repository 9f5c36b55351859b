//! Reads the table's text. Everything read is leaked: there is one table per process, for its whole life.

use std::collections::HashMap;

use base_meta::schema::{Field, ListType, MapType, PatchStrategy, Rare, Shape, Table, Type, TypeId};

use super::{Kind, Loaded};

/// What a line of the table holds that no line may.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("schema table, line {line}: {problem}")]
pub(super) struct LoadError {
    line: usize,
    problem: &'static str,
}

/// The table has far fewer than 65,536 types; the loader refuses more.
pub(super) fn type_id(index: usize) -> TypeId {
    TypeId(u16::try_from(index).expect("the loader counted the types"))
}

#[derive(Default)]
struct Loader {
    ids: HashMap<&'static str, TypeId>,
    shapes: Vec<Shape>,
    nested: HashMap<Shape, u16>,
    rare: HashMap<Rare, &'static Rare>,
}

const PREFIX: &str = "io.k8s.";

/// Made by the build script.
const PROSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/prose.gz"));

pub(super) fn load(text: &'static str) -> Result<Loaded, LoadError> {
    let mut loader = Loader::default();
    for (line, header) in lines(text).filter(|(_, line)| !line.starts_with(' ')) {
        let name = header.split(' ').next().unwrap_or_default();
        let id = u16::try_from(loader.ids.len()).map_err(|_| LoadError { line, problem: "too many types" })?;
        loader.ids.insert(name, TypeId(id));
    }
    let mut types = Vec::with_capacity(loader.ids.len());
    let mut kinds = Vec::new();
    let mut fields: Vec<Field> = Vec::new();
    let mut header: Option<&'static str> = None;
    let mut finish = |header: Option<&'static str>, fields: &mut Vec<Field>| {
        let Some(header) = header else { return };
        let mut words = header.split(' ');
        let name = words.next().unwrap_or_default();
        let id = type_id(types.len());
        let mut atomic_map = false;
        for word in words {
            let parts = word.strip_prefix("kind=").map(|kind| kind.splitn(3, '/'));
            if let Some(mut parts) = parts {
                let mut part = || parts.next().unwrap_or_default();
                kinds.push(Kind { group: part(), version: part(), kind: part(), id });
            } else {
                atomic_map |= word == "atomic";
            }
        }
        types.push(Type { name, fields: std::mem::take(fields).leak(), atomic_map });
    };
    for (number, line) in lines(text) {
        if let Some(line) = line.strip_prefix(' ') {
            fields.push(loader.field(line).map_err(|problem| LoadError { line: number, problem })?);
        } else {
            finish(header.replace(line), &mut fields);
        }
    }
    finish(header, &mut fields);
    kinds.sort();
    let table = Table { types: types.leak(), shapes: loader.shapes.leak(), prose: PROSE };
    Ok(Loaded { table: Box::leak(Box::new(table)), kinds })
}

fn lines(text: &'static str) -> impl Iterator<Item = (usize, &'static str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

impl Loader {
    fn field(&mut self, line: &'static str) -> Result<Field, &'static str> {
        let mut words = line.split(' ');
        let mut word = || words.next().ok_or("a field has a name, a shape, flags and a number");
        let (name, shape, flags, proto) = (word()?, word()?, word()?, word()?);
        let (proto, proto_outer) = numbers(proto)?;
        let mut field = Field {
            name,
            rare: Rare::NONE,
            shape: self.shape(shape)?,
            proto,
            proto_outer,
            pointer: flags.contains('*'),
            omitempty: flags.contains('o'),
            omitzero: flags.contains('z'),
            required: flags.contains('r'),
            list_type: None,
            map_type: None,
            patch_strategy: PatchStrategy::default(),
        };
        let mut rare = Rare::default();
        for word in words {
            let (fact, value) = word.split_once('=').ok_or("a fact has a value")?;
            match fact {
                "list" => field.list_type = Some(list_type(value)?),
                "map" if value == "atomic" => field.map_type = Some(MapType::Atomic),
                "map" => field.map_type = Some(MapType::Granular),
                "patch" => field.patch_strategy = patch_strategy(value)?,
                "keys" => rare.list_map_keys = value.split(',').collect::<Vec<_>>().leak(),
                "merge" => rare.patch_merge_key = Some(value),
                "default" => rare.default = Some(spaced(value)),
                "enum" => rare.enum_values = value.split('|').map(spaced).collect::<Vec<_>>().leak(),
                "go" => rare.go_type = Some(value),
                _ => return Err("an unknown fact"),
            }
        }
        if rare != Rare::default() {
            field.rare = self.rare.entry(rare).or_insert_with_key(|rare| Box::leak(Box::new(*rare)));
        }
        Ok(field)
    }

    fn shape(&mut self, text: &'static str) -> Result<Shape, &'static str> {
        if let Some(element) = text.strip_prefix("[]") {
            return Ok(Shape::List(self.nest(element)?));
        }
        if let Some(value) = text.strip_prefix("{}") {
            return Ok(Shape::Map(self.nest(value)?));
        }
        if let Some(name) = text.strip_prefix('@') {
            let full = format!("{PREFIX}{name}");
            return self.ids.get(full.as_str()).copied().map(Shape::Object).ok_or("a type that is not in the table");
        }
        Ok(match text {
            "string" => Shape::String,
            "bytes" => Shape::Bytes,
            "bool" => Shape::Bool,
            "int32" => Shape::Int(32),
            "int64" => Shape::Int(64),
            "float" => Shape::Float,
            "quantity" => Shape::Quantity,
            "intstr" => Shape::IntOrString,
            "time" => Shape::Time,
            "micro" => Shape::MicroTime,
            "duration" => Shape::Duration,
            "any" => Shape::Any,
            _ => return Err("an unknown shape"),
        })
    }

    fn nest(&mut self, text: &'static str) -> Result<u16, &'static str> {
        let shape = self.shape(text)?;
        if let Some(index) = self.nested.get(&shape) {
            return Ok(*index);
        }
        let index = u16::try_from(self.shapes.len()).map_err(|_| "too many shapes")?;
        self.shapes.push(shape);
        self.nested.insert(shape, index);
        Ok(index)
    }
}

/// `2.1.3`: field 3 of field 1 of field 2.
fn numbers(text: &str) -> Result<(u16, [u8; 2]), &'static str> {
    let mut parts = text.rsplit('.');
    let number = parts.next().and_then(|part| part.parse().ok()).ok_or("a field number")?;
    let outer: Result<Vec<u8>, _> = parts.map(str::parse).collect();
    let mut outer = outer.map_err(|_| "a field number of an outer message")?;
    outer.reverse();
    let at = |index: usize| outer.get(index).copied().unwrap_or_default();
    Ok((number, [at(0), at(1)]))
}

/// Blanks divide the words of a line; within a value they are tildes.
fn spaced(text: &'static str) -> &'static str {
    if text.contains('~') { text.replace('~', " ").leak() } else { text }
}

fn list_type(text: &str) -> Result<ListType, &'static str> {
    Ok(match text {
        "atomic" => ListType::Atomic,
        "set" => ListType::Set,
        "map" => ListType::Map,
        _ => return Err("an unknown list type"),
    })
}

fn patch_strategy(text: &str) -> Result<PatchStrategy, &'static str> {
    let mut strategy = PatchStrategy::default();
    for part in text.split(',') {
        match part {
            "merge" => strategy.merge = true,
            "replace" => strategy.replace = true,
            "retainKeys" => strategy.retain_keys = true,
            _ => return Err("an unknown patch strategy"),
        }
    }
    Ok(strategy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_table_names_its_line() {
        for (text, line, problem) in [
            ("io.k8s.a.B\n x string -", 2, "a field has a name, a shape, flags and a number"),
            ("io.k8s.a.B\n x @a.C - 1", 2, "a type that is not in the table"),
            ("io.k8s.a.B\n\n x strin - 1", 3, "an unknown shape"),
            ("io.k8s.a.B\n x string - one", 2, "a field number"),
            ("io.k8s.a.B\n x string - 1 colour=red", 2, "an unknown fact"),
            ("io.k8s.a.B\n x string - 1 list=tree", 2, "an unknown list type"),
        ] {
            assert_eq!(load(text).err(), Some(LoadError { line, problem }), "{text}");
        }
    }
}
