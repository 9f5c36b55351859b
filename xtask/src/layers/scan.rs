//! Rust source without its comments, strings and blanks: enough to look for words and paths.

/// The words and symbols of `text`, in order; literals become `""`.
pub(super) fn tokens(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let start = at;
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += comment(rest);
        } else if let Some(length) = string(rest) {
            at += length;
            found.push("\"\"");
        } else if bytes[at] == b'\'' {
            at += quote(rest);
        } else if is_word(bytes[at]) {
            while at < bytes.len() && is_word(bytes[at]) {
                at += 1;
            }
            found.push(&text[start..at]);
        } else if rest.starts_with("::") {
            at += 2;
            found.push("::");
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            if !text[start..at].trim().is_empty() {
                found.push(&text[start..at]);
            }
        }
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The length of a block comment; they nest.
fn comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of a string literal, if one starts here: plain, byte, C or raw.
fn string(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        let rest = &text.as_bytes()[prefix.len().min(text.len())..];
        let hashes = rest.iter().take_while(|byte| **byte == b'#').count();
        text.starts_with(prefix) && rest.get(hashes) == Some(&b'"') && (hashes == 0 || prefix.ends_with('r'))
    })?;
    let rest = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let body = &rest[hashes + 1..];
        let length = body.find(&end).map_or(body.len(), |at| at + end.len());
        return Some(prefix.len() + hashes + 1 + length);
    }
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(prefix.len() + at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

/// The length of a character literal, or of a lifetime's quote.
fn quote(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => text.char_indices().skip(3).find(|(_, c)| *c == '\'').map_or(text.len(), |(at, _)| at + 1),
        Some(_) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = r####"fn a<'x>(c: char) { /* unsafe /* deep */ unsafe */ b("unsafe \" unsafe", r#"un"safe"#, b"x", '"', '\'') } // unsafe"####;
        assert_eq!(tokens(text).concat(), "fna<x>(c:char){b(\"\",\"\",\"\",,)}",);
        assert_eq!(tokens("k8s_openapi :: api::core"), ["k8s_openapi", "::", "api", "::", "core"]);
        for broken in ["\"", "r#\"", "/*", "'", "'\\", "b\"é"] {
            tokens(broken);
        }
    }
}
