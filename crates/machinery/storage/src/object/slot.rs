//! Finds where `metadata` opens in an encoded object, without decoding it.

use std::ops::Range;

/// The bytes are not an encoded object that metadata can be spliced into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("encoded object has no metadata object (at byte {at})")]
pub struct Malformed {
    pub at: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) offset: u32,
    pub(super) bare: bool,
}

/// Walks the members of the outermost object of compact JSON until `metadata`.
pub(super) fn find(json: &[u8]) -> Result<Slot, Malformed> {
    let mut at = expect(json, 0, b'{')?;
    loop {
        let name_end = skip_string(json, at)?;
        let value = expect(json, name_end, b':')?;
        if &json[at..name_end] == b"\"metadata\"" {
            let open = expect(json, value, b'{')?;
            let bare = json.get(open) == Some(&b'}');
            let offset = u32::try_from(open).map_err(|_| Malformed { at: open })?;
            return Ok(Slot { offset, bare });
        }
        at = expect(json, skip_value(json, value)?, b',')?;
    }
}

/// Where the member `name` is in an encoded object's metadata, if it is the first there: the member with the comma after
/// it, and its value.
pub fn leading_member(json: &[u8], name: &str) -> Option<(Range<usize>, Range<usize>)> {
    let start = find(json).ok()?.offset as usize;
    let name_end = skip_string(json, start).ok()?;
    if json.get(start + 1..name_end - 1) != Some(name.as_bytes()) {
        return None;
    }
    let value = expect(json, name_end, b':').ok()?;
    let end = skip_value(json, value).ok()?;
    let comma = usize::from(json.get(end) == Some(&b','));
    Some((start..end + comma, value..end))
}

/// Just after `"metadata":{` of an encoded object.
pub fn metadata_start(json: &[u8]) -> Result<usize, Malformed> {
    find(json).map(|slot| slot.offset as usize)
}

fn expect(json: &[u8], at: usize, byte: u8) -> Result<usize, Malformed> {
    if json.get(at) == Some(&byte) { Ok(at + 1) } else { Err(Malformed { at }) }
}

/// From an opening quote to just after the closing one.
fn skip_string(json: &[u8], start: usize) -> Result<usize, Malformed> {
    let mut at = expect(json, start, b'"')?;
    loop {
        match json.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return Err(Malformed { at }),
        }
    }
}

/// To the comma or brace that ends the member.
fn skip_value(json: &[u8], start: usize) -> Result<usize, Malformed> {
    let (mut at, mut depth) = (start, 0usize);
    loop {
        match json.get(at) {
            Some(b'"') => {
                at = skip_string(json, at)?;
                continue;
            }
            Some(b'{' | b'[') => depth += 1,
            Some(b'}' | b']' | b',') if depth == 0 => return Ok(at),
            Some(b'}' | b']') => depth -= 1,
            Some(_) => {}
            None => return Err(Malformed { at }),
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_member_is_found_and_no_other() {
        let json = br#"{"data":{"metadata":{"a":1}},"metadata":{"a":[{"b":"}]"}],"c":1}}"#;
        let (member, value) = leading_member(json, "a").expect("it leads");
        assert_eq!((&json[member], &json[value]), (&br#""a":[{"b":"}]"}],"#[..], &br#"[{"b":"}]"}]"#[..]));
        assert_eq!(leading_member(json, "c"), None);
        assert_eq!(leading_member(br#"{"metadata":{}}"#, "a"), None);
        let (member, _) = leading_member(br#"{"metadata":{"a":1}}"#, "a").expect("it is alone");
        assert_eq!(member, 13..18);
        assert_eq!(leading_member(b"{", "a"), None);
    }

    #[test]
    fn members_before_metadata_are_skipped() {
        let json = br#"{"a":"\"}{","b":[1,{"metadata":{}}],"c":-1.5e3,"metadata":{"name":"x"}}"#;
        let Ok(Slot { offset, bare }) = find(json) else { panic!("metadata not found") };
        assert!(json[..offset as usize].ends_with(br#""c":-1.5e3,"metadata":{"#));
        assert!(!bare);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(json in r#"[{}\[\]",:\\a]{0,40}(\{"metadata":)?[{}\[\]",:\\a]{0,9}"#) {
            if let Ok(slot) = find(json.as_bytes()) {
                assert!(json[..slot.offset as usize].ends_with("\"metadata\":{"));
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let bad: [&[u8]; 8] = [
            b"",
            b"{",
            b"{}",
            b"[]",
            br#"{"metadata":null}"#,
            br#"{"a":"#,
            br#"{"a":"b\"#,
            br#"{"a":{"metadata":{}}}"#,
        ];
        for json in bad {
            assert!(find(json).is_err(), "{}", String::from_utf8_lossy(json));
        }
    }
}
