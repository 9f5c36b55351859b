//! Query strings, decoded once, with the conversions of upstream's `ParameterCodec`.

use std::borrow::Cow;

use base_meta::Status;
use base_meta::selector::FieldSelector;
use percent_encoding::percent_decode_str;

/// The parameters in order of appearance; of one given twice the first counts, as in Go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    pub(crate) fn parse(query: &'a str) -> Result<Self, Status> {
        if query.is_empty() {
            return Ok(Self::default());
        }
        query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((decode(name)?, decode(value)?))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_ref())
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    pub(crate) fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_ref())
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// `false` and `0` are false, everything else that is present is true.
    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.boolean(name) == Some(true)
    }

    /// Empty counts as absent.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Status> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|error: std::num::ParseIntError| {
                let cause = match error.kind() {
                    std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
                    _ => "invalid syntax",
                };
                Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: {cause}"))
            }),
        }
    }

    /// The object that a field selector pins by `metadata.name`, where its value could be a name.
    pub(crate) fn selected_name(&self) -> Option<String> {
        let selector = FieldSelector::parse(self.get("fieldSelector")?).ok()?;
        let name = selector.requires("metadata.name")?;
        let usable = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%', '\\']);
        usable.then(|| name.to_owned())
    }
}

fn decode(text: &str) -> Result<Cow<'_, str>, Status> {
    let bad = |_| Status::bad_request("the query string is not valid UTF-8");
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Ok(Cow::Owned(percent_decode_str(&spaced).decode_utf8().map_err(bad)?.into_owned()));
    }
    percent_decode_str(text).decode_utf8().map_err(bad)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_convert_as_upstreams_do() {
        let query = Query::parse("watch=1&limit=500&a=b%2Cc+d&a=second&x&off=False&empty=").unwrap();
        assert!(query.flag("watch") && query.flag("x") && query.flag("empty"));
        assert!(!query.flag("off") && !query.flag("absent"));
        assert_eq!(query.text("a"), "b,c d");
        assert_eq!(query.all("a").count(), 2);
        assert_eq!(query.integer("limit").unwrap(), Some(500));
        assert_eq!(query.integer("empty").unwrap(), None);
    }

    #[test]
    fn bad_values_are_bad_requests() {
        let query = Query::parse("limit=ten&timeoutSeconds=99999999999999999999").unwrap();
        let error = query.integer("limit").unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (400, r#"strconv.ParseInt: parsing "ten": invalid syntax"#));
        assert!(query.integer("timeoutSeconds").unwrap_err().message.ends_with("value out of range"));
        assert_eq!(Query::parse("a=%ff").unwrap_err().code, 400);
    }
}
