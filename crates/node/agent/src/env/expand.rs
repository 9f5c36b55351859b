//! `$(VAR)` expansion in env values, commands and arguments.

/// Replaces `$(NAME)` by its value; an unknown name stays as written; `$$` is a literal `$`.
pub fn expand<'a>(input: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut output = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(dollar) = rest.find('$') {
        output.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            output.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => output.push_str(value),
                None => {
                    output.push_str("$(");
                    output.push_str(name);
                    output.push(')');
                }
            }
            rest = tail;
        } else {
            output.push('$');
            rest = after;
        }
    }
    output.push_str(rest);
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(input: &str) -> String {
        expand(input, |name| match name {
            "A" => Some("a"),
            "EMPTY" => Some(""),
            _ => None,
        })
    }

    #[test]
    fn known_names_are_replaced_and_unknown_ones_kept() {
        assert_eq!(run("x$(A)y$(NONE)$(EMPTY)"), "xay$(NONE)");
    }

    #[test]
    fn two_dollars_escape() {
        assert_eq!(run("$$(A) $$$(A) $$"), "$(A) $a $");
    }

    #[test]
    fn malformed_references_are_literal() {
        assert_eq!(run("$ $A $(A ) $( $(A"), "$ $A $(A ) $( $(A");
        assert_eq!(run("tail$"), "tail$");
        assert_eq!(run("$(unclosed"), "$(unclosed");
        assert_eq!(run("ü$(A)ü"), "üaü");
    }
}
