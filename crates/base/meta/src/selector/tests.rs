use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
    let labels: BTreeMap<String, String> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    LabelSelector::parse(selector).expect(selector).matches_labels(&labels)
}

#[test]
fn label_selectors_match_as_upstreams() {
    let web = [("app", "web"), ("tier", "front"), ("generation", "7")];
    for selector in [
        "",
        "app=web",
        "app == web",
        "app!=db",
        "missing!=x",
        "missing notin (x)",
        "app in (web, db),tier",
        "!missing",
        "generation>6,generation<8",
        "in notin (x)",
        "app in (,web)",
    ] {
        assert!(selects(selector, &web), "{selector}");
    }
    for selector in ["app=db", "app=", "missing in (x)", "!app", "tier notin (front,back)", "generation>7", "app>1"] {
        assert!(!selects(selector, &web), "{selector}");
    }
    assert!(selects("app=", &[("app", "")]));
}

#[test]
fn bad_label_selectors_are_refused_with_upstreams_words() {
    for (selector, message) in [
        ("app in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("app=a,", "found '', expected: identifier after ','"),
        (",", "found ',', expected: !, identifier, or 'end of string'"),
        ("app web", "unable to parse requirement: found 'web', expected: in, notin, =, ==, !=, gt, lt"),
        ("app=(a)", "unable to parse requirement: found '(', expected: identifier"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("app in web", "unable to parse requirement: found 'web', expected: '('"),
    ] {
        assert_eq!(LabelSelector::parse(selector).expect_err(selector).to_string(), message);
    }
    let error = LabelSelector::parse("app=b@d").expect_err("a bad value").to_string();
    assert!(error.starts_with("unable to parse requirement: values[0][app]: Invalid value: \"b@d\": a valid label"));
    let error = LabelSelector::parse("a/b/c=d").expect_err("a bad key").to_string();
    assert!(error.starts_with("unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key"));
    for selector in ["a in ()", "a>b", "=", "!", "!!a", "a=é", "a)", "()"] {
        assert!(LabelSelector::parse(selector).is_err(), "{selector}");
    }
}

#[test]
fn typed_selectors_follow_upstreams_rules() {
    let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    assert!(!LabelSelector::from_json(&json!(null)).expect("null").matches_labels(&labels));
    assert!(LabelSelector::from_json(&json!({})).expect("empty").matches_labels(&labels));
    let selector =
        json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]});
    let selector = LabelSelector::from_json(&selector).expect("a selector");
    assert!(selector.matches_labels(&labels));
    assert_eq!(selector.to_string(), "app=web,!x");
    let bad = json!({"matchExpressions": [{"key": "x", "operator": "Near"}]});
    assert_eq!(
        LabelSelector::from_json(&bad).expect_err("an operator").to_string(),
        "\"Near\" is not a valid label selector operator"
    );
    let empty = json!({"matchExpressions": [{"key": "x", "operator": "In"}]});
    assert!(LabelSelector::from_json(&empty).is_err());
}

#[test]
fn field_selectors_parse_match_and_print() {
    let selector = FieldSelector::parse(r"metadata.name=a\,b\=c,spec.nodeName!=").expect("a selector");
    assert_eq!(selector.requires("metadata.name"), Some("a,b=c"));
    assert_eq!(FieldSelector::parse(&selector.to_string()).expect("printed"), selector);
    let fields = |field: &str| match field {
        "metadata.name" => Some("a,b=c"),
        "spec.nodeName" => Some("node-1"),
        _ => None,
    };
    assert!(selector.matches(fields));
    assert!(!selector.matches(|_| None));
    assert!(FieldSelector::parse(",").expect("nothing").is_everything());
    for bad in ["metadata.name", r"a=\x", r"a=\", "a=b=c"] {
        assert!(FieldSelector::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(
        FieldSelector::parse("a=b,what").expect_err("no operator").to_string(),
        "invalid selector: 'a=b,what'; can't understand 'what'"
    );
}

proptest! {
    #[test]
    fn any_text_parses_or_fails_without_panic(text in ".{0,40}", more in "[a-z!=,() <>]{0,30}") {
        for text in [text, more] {
            if let Ok(selector) = LabelSelector::parse(&text) {
                let printed = selector.to_string();
                prop_assert_eq!(LabelSelector::parse(&printed).expect("what it printed"), selector, "{}", printed);
            }
            let _ = FieldSelector::parse(&text);
        }
    }

    #[test]
    fn field_selectors_survive_printing(values in proptest::collection::vec((".{0,12}", any::<bool>()), 0..4)) {
        let terms = values.into_iter()
            .map(|(value, equals)| FieldTerm { field: "metadata.name".into(), equals, value })
            .collect();
        let selector = FieldSelector { terms };
        prop_assert_eq!(FieldSelector::parse(&selector.to_string()).expect("what it printed"), selector);
    }
}
