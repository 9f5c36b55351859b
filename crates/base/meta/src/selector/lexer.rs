//! Tokens of the label selector syntax.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    End,
    Word,
    In,
    NotIn,
    Bang,
    Comma,
    Open,
    Close,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
}

fn symbol(text: &str) -> Option<Token> {
    Some(match text {
        "!" => Token::Bang,
        "," => Token::Comma,
        "(" => Token::Open,
        ")" => Token::Close,
        "=" => Token::Equals,
        "==" => Token::DoubleEquals,
        "!=" => Token::NotEquals,
        ">" => Token::Greater,
        "<" => Token::Less,
        _ => return None,
    })
}

fn special(byte: u8) -> bool {
    matches!(byte, b'=' | b'!' | b'(' | b')' | b',' | b'>' | b'<')
}

/// Splits at whitespace and symbols; the longest symbol wins.
pub(super) fn tokens(text: &str) -> Vec<(Token, &str)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        if bytes[at].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        if special(bytes[at]) {
            let longest = [2, 1].into_iter().find_map(|length| {
                let text = text.get(start..start + length)?;
                symbol(text).map(|token| (token, text))
            });
            let Some(token) = longest else { break };
            at += token.1.len();
            found.push(token);
            continue;
        }
        while at < bytes.len() && !special(bytes[at]) && !bytes[at].is_ascii_whitespace() {
            at += 1;
        }
        let word = &text[start..at];
        let token = match word {
            "in" => Token::In,
            "notin" => Token::NotIn,
            _ => Token::Word,
        };
        found.push((token, word));
    }
    found
}
