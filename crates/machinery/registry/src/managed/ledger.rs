//! `metadata.managedFields`: who owns what, decoded as far as anybody asks.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::element::quoted;
use super::set::Set;
use super::text::count;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who wrote: what tells one entry from another. Appliers are one whichever version they apply.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Writer {
    pub manager: Cow<'static, str>,
    pub operation: Operation,
    pub api_version: Cow<'static, str>,
    /// Empty for the object itself.
    pub subresource: Cow<'static, str>,
}

impl Writer {
    pub(super) fn is(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }
}

/// A set, or the text of one that nobody has had to look into.
#[derive(Clone, Debug)]
pub(super) enum Fields {
    Text(Box<str>),
    Set(Set),
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub writer: Writer,
    /// RFC 3339, whole seconds in UTC: sorts as text.
    pub time: Option<Box<str>>,
    pub(super) fields: Fields,
}

impl Entry {
    pub(super) fn set(&self) -> Result<Cow<'_, Set>, Error> {
        match &self.fields {
            Fields::Set(set) => Ok(Cow::Borrowed(set)),
            Fields::Text(text) => Set::parse(text).map(Cow::Owned).map_err(Error::Fields),
        }
    }

    /// How many paths of `set` the entry owns.
    pub(super) fn count(&self, set: &Set) -> Result<usize, Error> {
        match &self.fields {
            Fields::Set(fields) => Ok(fields.intersection(set).len()),
            Fields::Text(text) => count(text, set).map_err(Error::Fields),
        }
    }

    pub(super) fn owns_nothing(&self) -> bool {
        match &self.fields {
            Fields::Set(set) => set.is_empty(),
            Fields::Text(text) => &**text == "{}",
        }
    }

    fn text(&self) -> Cow<'_, str> {
        match &self.fields {
            Fields::Set(set) => Cow::Owned(set.print()),
            Fields::Text(text) => Cow::Borrowed(text),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("managedFields are not a list of entries")]
    Malformed(#[source] serde_json::Error),
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    #[error("apiVersion must not be empty")]
    Version,
    #[error("missing fieldsType in managed fields entry {0}")]
    NoType(usize),
    #[error("invalid fieldsType {1:?} in managed fields entry {0}")]
    Type(usize, String),
    #[error("error decoding set")]
    Fields(#[source] serde_json::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(default, borrow)]
    manager: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    operation: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    api_version: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    time: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    fields_type: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    fields_v1: Option<&'a RawValue>,
    #[serde(default, borrow)]
    subresource: Option<Cow<'a, str>>,
}

/// In upstream's order: appliers first, then by time, name, version, subresource.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub(super) entries: Vec<Entry>,
}

impl Ledger {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Of the JSON of `metadata.managedFields`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wire: Option<Vec<Wire<'_>>> = serde_json::from_str(text).map_err(Error::Malformed)?;
        let decode = |(at, wire): (usize, Wire<'_>)| {
            let operation = match wire.operation.as_deref() {
                Some("Apply") => Operation::Apply,
                Some("Update") => Operation::Update,
                _ => return Err(Error::Operation),
            };
            let own = |text: Option<Cow<'_, str>>| -> Cow<'static, str> {
                Cow::Owned(text.map(Cow::into_owned).unwrap_or_default())
            };
            let api_version = own(wire.api_version);
            if api_version.is_empty() {
                return Err(Error::Version);
            }
            match wire.fields_type.as_deref() {
                Some("FieldsV1") => {}
                None | Some("") => return Err(Error::NoType(at)),
                Some(other) => return Err(Error::Type(at, other.to_owned())),
            }
            let writer =
                Writer { manager: own(wire.manager), operation, api_version, subresource: own(wire.subresource) };
            let fields = Fields::Text(wire.fields_v1.map_or("{}", RawValue::get).into());
            Ok(Entry { writer, time: wire.time.map(|time| time.into()), fields })
        };
        let entries = wire.unwrap_or_default().into_iter().enumerate().map(decode).collect::<Result<Vec<_>, _>>()?;
        let mut ledger = Self { entries: Vec::with_capacity(entries.len()) };
        // Of two entries of one writer the later counts, as it does upstream.
        for entry in entries {
            match ledger.entries.iter_mut().find(|other| other.writer.is(&entry.writer)) {
                Some(other) => *other = entry,
                None => ledger.entries.push(entry),
            }
        }
        Ok(ledger)
    }

    /// As a client sends it: what it has changed is looked into. `None`: nothing, it is `known`.
    pub fn sent(value: &Value, known: &Self) -> Result<Option<Self>, Error> {
        let mut ledger = Self::parse(&value.to_string())?;
        let mut same = ledger.entries.len() == known.entries.len();
        for entry in &mut ledger.entries {
            match known.find(&entry.writer) {
                Some(known) if known.text() == entry.text() && known.time == entry.time => {}
                known => {
                    let set = entry.set()?.into_owned();
                    // The order of keys is not the client's to change.
                    same &= known
                        .is_some_and(|known| known.time == entry.time && known.set().is_ok_and(|known| *known == set));
                    entry.fields = Fields::Set(set);
                }
            }
        }
        Ok((!same).then_some(ledger))
    }

    /// The JSON of `metadata.managedFields`.
    pub fn print(&self) -> String {
        let mut out = String::with_capacity(64 + self.entries.len() * 512);
        out.push('[');
        for (at, entry) in self.entries.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            head(&entry.writer, entry.time.as_deref(), &mut out);
            out.push_str(&entry.text());
            tail(&entry.writer, &mut out);
        }
        out.push(']');
        out
    }

    pub(super) fn find(&self, writer: &Writer) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.writer.is(writer))
    }

    pub(super) fn remove(&mut self, writer: &Writer) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.writer.is(writer))?;
        Some(self.entries.remove(at))
    }

    pub(super) fn sort(&mut self) {
        self.entries.sort_by(|one, other| {
            let key = |entry: &Entry| (entry.writer.operation, entry.time.clone());
            let name = |entry: &Entry| {
                let writer = &entry.writer;
                (writer.manager.clone(), writer.api_version.clone(), writer.subresource.clone())
            };
            key(one).cmp(&key(other)).then_with(|| name(one).cmp(&name(other)))
        });
    }

    /// Whether the two differ at most in their times.
    pub fn same_but_for_times(&self, other: &Self) -> bool {
        let same = |entry: &Entry| {
            other.find(&entry.writer).is_some_and(|other| {
                entry.writer.api_version == other.writer.api_version
                    && (entry.text() == other.text()
                        || matches!((entry.set(), other.set()), (Ok(one), Ok(other)) if one == other))
            })
        };
        self.entries.len() == other.entries.len() && self.entries.iter().all(same)
    }
}

/// An entry's text up to its fields.
pub(super) fn head(writer: &Writer, time: Option<&str>, out: &mut String) {
    out.push_str(r#"{"manager":"#);
    quoted(&writer.manager, out);
    out.extend([r#","operation":""#, writer.operation.as_str(), r#"","apiVersion":"#]);
    quoted(&writer.api_version, out);
    if let Some(time) = time {
        out.push_str(r#","time":"#);
        quoted(time, out);
    }
    out.push_str(r#","fieldsType":"FieldsV1","fieldsV1":"#);
}

pub(super) fn tail(writer: &Writer, out: &mut String) {
    if !writer.subresource.is_empty() {
        out.push_str(r#","subresource":"#);
        quoted(&writer.subresource, out);
    }
    out.push('}');
}
