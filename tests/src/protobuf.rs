//! Just enough of the protobuf encoding to look into objects and make some, apart from the server's own code. Field numbers are those
//! of upstream's `generated.proto`.

use anyhow::{Context, Result, bail, ensure};

/// Before every encoded object.
const MAGIC: &[u8] = b"k8s\0";

/// `runtime.Unknown`: an object's type and its own message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub api_version: String,
    pub kind: String,
    pub raw: Vec<u8>,
}

/// One field of a message: its number, and the bytes of its value (of a number, its little end first).
type Field<'a> = (u64, &'a [u8]);

impl Object {
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let message = bytes.strip_prefix(MAGIC).context("the object does not begin with k8s\\0")?;
        let mut object = Self { api_version: String::new(), kind: String::new(), raw: Vec::new() };
        for (number, value) in fields(message)? {
            match number {
                1 => {
                    object.api_version = text(value, 1)?;
                    object.kind = text(value, 2)?;
                }
                2 => object.raw = value.to_vec(),
                _ => {}
            }
        }
        Ok(object)
    }

    pub fn write(&self) -> Vec<u8> {
        let mut type_meta = Vec::new();
        put(&mut type_meta, 1, self.api_version.as_bytes());
        put(&mut type_meta, 2, self.kind.as_bytes());
        let mut bytes = MAGIC.to_vec();
        put(&mut bytes, 1, &type_meta);
        put(&mut bytes, 2, &self.raw);
        bytes
    }

    /// `metadata` is field 1 of every kind. Of it: name, resourceVersion.
    pub fn identity(&self) -> Result<(String, String)> {
        let metadata = one(&self.raw, 1)?;
        Ok((text(metadata, 1)?, text(metadata, 6)?))
    }

    /// The same object with a metadata that says no more than this.
    pub fn renamed(&self, name: &str, namespace: &str, label: (&str, &str)) -> Result<Self> {
        let mut pair = Vec::new();
        put(&mut pair, 1, label.0.as_bytes());
        put(&mut pair, 2, label.1.as_bytes());
        let mut metadata = Vec::new();
        put(&mut metadata, 1, name.as_bytes());
        put(&mut metadata, 3, namespace.as_bytes());
        put(&mut metadata, 11, &pair);
        let mut raw = Vec::new();
        put(&mut raw, 1, &metadata);
        raw.extend_from_slice(&self.raw[skip_first(&self.raw)?..]);
        Ok(Self { raw, ..self.clone() })
    }
}

/// Of a `metav1.WatchEvent`: its type and object.
pub fn event(bytes: &[u8]) -> Result<(String, Object)> {
    let raw_extension = one(bytes, 2)?;
    Ok((text(bytes, 1)?, Object::read(one(raw_extension, 1)?)?))
}

/// How many items a list's message has: field 2 of every list.
pub fn items(list: &Object) -> Result<usize> {
    Ok(fields(&list.raw)?.iter().filter(|(number, _)| *number == 2).count())
}

fn fields(mut message: &[u8]) -> Result<Vec<Field<'_>>> {
    let mut all = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let length = match tag & 7 {
            0 => {
                let before = message;
                varint(&mut message)?;
                all.push((tag >> 3, &before[..before.len() - message.len()]));
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?)?,
            5 => 4,
            other => bail!("wire type {other}"),
        };
        ensure!(length <= message.len(), "a field of {length} bytes in {}", message.len());
        let (value, rest) = message.split_at(length);
        all.push((tag >> 3, value));
        message = rest;
    }
    Ok(all)
}

/// Where the fields after field 1 begin; that one comes first.
fn skip_first(message: &[u8]) -> Result<usize> {
    let mut rest = message;
    ensure!(varint(&mut rest)? == (1 << 3 | 2), "the message does not begin with its metadata");
    let length = usize::try_from(varint(&mut rest)?)?;
    Ok(message.len() - rest.len() + length)
}

fn one(message: &[u8], number: u64) -> Result<&[u8]> {
    let found = fields(message)?.into_iter().find(|(found, _)| *found == number);
    Ok(found.with_context(|| format!("no field {number}"))?.1)
}

/// Empty where it is left out.
fn text(message: &[u8], number: u64) -> Result<String> {
    let found = fields(message)?.into_iter().find(|(found, _)| *found == number);
    Ok(String::from_utf8(found.map(|(_, bytes)| bytes.to_vec()).unwrap_or_default())?)
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().context("a number breaks off")?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number of more than 64 bits")
}

/// Appends a field of at most number 15.
pub fn put(out: &mut Vec<u8>, number: u8, value: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = value.len();
    while length >= 0x80 {
        out.push(length as u8 & 0x7f | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(value);
}
