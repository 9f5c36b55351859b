//! The JSONPath that printer columns use: fields, indices, `*`, and filters of one comparison.

use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// `[?(@.type=="Ready")]`
    Filter {
        path: Vec<Step>,
        equal: bool,
        value: Value,
    },
    /// `[?(@.type)]`
    Has(Vec<Step>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonPath(Vec<Step>);

impl JsonPath {
    /// None for what is not understood.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
        steps(text.strip_prefix('$').unwrap_or(text)).map(Self)
    }

    pub(super) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        follow(&self.0, value)
    }
}

fn steps(text: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('[') {
            let end = closing(tail)?;
            steps.push(bracket(tail[..end].trim())?);
            rest = &tail[end + 1..];
            continue;
        }
        let tail = rest.strip_prefix('.').unwrap_or(rest);
        let (name, tail) = field(tail);
        if name.is_empty() {
            return None;
        }
        steps.push(if name == "*" { Step::All } else { Step::Field(name) });
        rest = tail;
    }
    Some(steps)
}

/// A name up to the next dot or bracket; a backslash takes the next letter as it is.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '.' | '[' => return (name, &text[at..]),
            '\\' => name.extend(letters.next().map(|(_, next)| next)),
            letter => name.push(letter),
        }
    }
    (name, "")
}

/// Where the bracket ends that `text` is inside of.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(letter),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

fn bracket(text: &str) -> Option<Step> {
    if text == "*" {
        return Some(Step::All);
    }
    if let Some(name) = quoted(text) {
        return Some(Step::Field(name.replace('\\', "")));
    }
    if let Some(inside) = text.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        let found = ["==", "!="].into_iter().find_map(|operator| Some((operator, inside.split_once(operator)?)));
        let path = |text: &str| steps(text.trim().strip_prefix('@')?);
        let Some((operator, (left, right))) = found else { return path(inside).map(Step::Has) };
        let right = right.trim();
        let value = match quoted(right) {
            Some(text) => Value::from(text),
            None => serde_json::from_str(right).ok()?,
        };
        return Some(Step::Filter { path: path(left)?, equal: operator == "==", value });
    }
    text.parse().ok().map(Step::Index)
}

fn follow<'a>(steps: &[Step], value: &'a Value) -> Vec<&'a Value> {
    let Some((step, rest)) = steps.split_first() else { return vec![value] };
    let next: Vec<&Value> = match (step, value) {
        (Step::Field(name), value) => value.get(name).into_iter().collect(),
        (Step::Index(at), Value::Array(items)) => {
            let at =
                if *at < 0 { items.len().checked_sub(at.unsigned_abs() as usize) } else { usize::try_from(*at).ok() };
            at.and_then(|at| items.get(at)).into_iter().collect()
        }
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(fields)) => fields.values().collect(),
        (Step::Filter { path, equal, value }, Value::Array(items)) => items
            .iter()
            .filter(|item| follow(path, item).first().is_some_and(|found| (*found == value) == *equal))
            .collect(),
        (Step::Has(path), Value::Array(items)) => items.iter().filter(|item| !follow(path, item).is_empty()).collect(),
        _ => Vec::new(),
    };
    next.into_iter().flat_map(|value| follow(rest, value)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_of_columns_are_followed() {
        let object = json!({"metadata": {"labels": {"a.b/c": "x"}}, "spec": {"list": [{"n": 1}, {"n": 2}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]}});
        let find = |path: &str| json!(JsonPath::parse(path).map(|path| path.find(&object)));
        assert_eq!(find(".spec.list[1].n"), json!([2]));
        assert_eq!(find(".spec.list[-1].n"), json!([2]));
        assert_eq!(find(".spec.list[*].n"), json!([1, 2]));
        assert_eq!(find(r#".status.conditions[?(@.type=="Ready")].status"#), json!(["True"]));
        assert_eq!(find(r#".status.conditions[?(@.type != 'Ready')].status"#), json!(["False"]));
        assert_eq!(find(".metadata.labels['a.b/c']"), json!(["x"]));
        assert_eq!(find(r".metadata.labels.a\.b/c"), json!(["x"]));
        assert_eq!(find("{.spec.list[0].n}"), json!([1]));
        assert_eq!(find(".spec.nothing.here"), json!([]));
        for bad in [".a[", "a..b", ".a[x]", ".a[?(@.b==)]"] {
            assert_eq!(JsonPath::parse(bad), None, "{bad}");
        }
    }
}
