#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use base_meta::field::Path;
use machinery_structural::Schema;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::rules::Rules;
use crate::{Budget, Declarations, EvalError, PER_CALL_LIMIT, Program, Ty, Val, declare, to_value};

fn schema() -> Schema {
    Schema::parse(&json!({"type": "object", "properties": {
        "n": {"type": "integer"}, "s": {"type": "string"}, "when": {"type": "string", "format": "date-time"},
        "l": {"type": "array", "items": {"type": "integer"}}, "m": {"type": "object", "additionalProperties": {"type": "string"}},
        "o": {"type": "object", "properties": {"in": {"type": "boolean"}, "a-b": {"type": "integer"}}},
        "p": {"x-kubernetes-int-or-string": true}, "q": {"type": "string"}}}))
    .unwrap()
}

fn run(source: &str) -> Result<Val, EvalError> {
    let document = json!({"n": 3, "s": "héllo", "when": "2024-02-29T10:00:00Z", "l": [3, 1, 2], "m": {"k": "v"},
        "o": {"in": true, "a-b": 7}, "p": "50%"});
    let declarations = Declarations::default().with("self", declare(&schema(), false));
    let program = Program::compile(source, &declarations).unwrap_or_else(|error| panic!("{source}: {error}"));
    let variables = BTreeMap::from([("self", to_value(&schema(), false, &document))]);
    program.evaluate(&variables, &mut Budget::new(PER_CALL_LIMIT))
}

#[test]
fn expressions_are_true() {
    for source in [
        "1 + 2 * 3 == 7 && 7 % 4 == 3 && -5 < 0 && 1.5 > 1 && 2u == 2u",
        "self.n >= 3 && self.s.startsWith('h') && size(self.s) == 5 && self.s.matches('^h.llo$')",
        "self.l.all(x, x > 0) && self.l.exists(x, x == 2) && self.l.exists_one(x, x == 1)",
        "self.l.map(x, x * 2) == [6, 2, 4] && self.l.filter(x, x > 1).size() == 2 && self.l.map(x, x > 1, x + 1) == [4, 3]",
        "self.l.sum() == 6 && self.l.min() == 1 && self.l.max() == 3 && !self.l.isSorted() && self.l.indexOf(2) == 2",
        "'k' in self.m && self.m['k'] == 'v' && self.m.all(k, k != 'x') && has(self.m.k) && !has(self.m.z)",
        "self.o.__in__ && self.o.a__dash__b == 7 && has(self.s) && !has(self.q)",
        "self.p == '50%' && (type(self.p) == string ? true : int(self.p) > 0)",
        "self.when > timestamp('2024-01-01T00:00:00Z') && self.when.getFullYear() == 2024 && self.when.getMonth() == 1",
        "duration('1h30m') == duration('90m') && duration('90s').getMinutes() == 1 && self.when + duration('1h') > self.when",
        "self.?q.orValue('none') == 'none' && self.?n.hasValue() && self.m[?'z'].or(optional.of('y')).value() == 'y'",
        "optional.none().optMap(x, 1).orValue(2) == 2 && optional.of(1).optMap(x, x + 1).value() == 2",
        "[1, 2].all(i, v, v == i + 1) && {'a': 1}.transformMap(k, v, v + 1) == {'a': 2} && [1].transformList(i, v, i) == [0]",
        "{'a': 1}.transformMapEntry(k, v, {v: k}) == {1: 'a'} && [5, 6].transformMapEntry(i, v, v > 5, {string(v): i}) == {'6': 1}",
        "optional.unwrap([optional.of(1), optional.none()]) == [1] && [optional.of('a'), optional.of('b')].unwrapOpt() == ['a', 'b']",
        "{'a': 1, 'b': 2}.existsOne(k, v, v == 2) && {'a': 1}.exists(k, v, k == 'a') && [1, 2, 3].transformList(i, v, i > 0, v * 10) == [20, 30]",
        "[?optional.none(), 1] == [1] && {?'a': optional.of(1), ?'b': optional.none()} == {'a': 1} && optional.of([1]).optFlatMap(l, l[?0]).value() == 1",
        "isURL('https://a.b/') && url('https://example.com:80/p%20q?k=v').getQuery() == {'k': ['v']} && url('http://[::1]/').getHostname() == '::1' && url('https://example.com/').getHost() == 'example.com'",
        "quantity('50000000G').isInteger() && !quantity('9999999999999999999999999999999999999G').isInteger() && quantity('50k').sub(20000).compareTo(quantity('30k')) == 0 && quantity('-1').sign() == -1 && quantity('200M').isLessThan(quantity('1G'))",
        "ip('127.0.0.1').isLoopback() && ip('0.0.0.0').isUnspecified() && ip('192.168.0.1').isGlobalUnicast() && ip('fe80::1').isLinkLocalUnicast() && ip('224.0.0.1').isLinkLocalMulticast() && string(ip('192.168.0.1')) == '192.168.0.1'",
        "cidr('192.168.0.0/24').containsCIDR('192.168.0.0/25') && !cidr('192.168.0.0/24').containsIP('10.0.0.1') && cidr('::1/128').prefixLength() == 128 && cidr('192.168.0.0/24').ip().family() == 4 && string(cidr('192.168.0.0/24')) == '192.168.0.0/24' && isCIDR('::1/128')",
        "format.dns1123Subdomain().validate('a.b') == optional.none() && format.uuid().validate('123e4567-e89b-12d3-a456-426614174000') == optional.none() && format.qualifiedName().validate('a/b') == optional.none()",
        "'hello mellow'.indexOf('ello', 2) == 7 && 'hello mellow'.lastIndexOf('ello', 6) == 1 && 'hello hello'.replace('he', 'we', 1) == 'wello hello' && 'hello hello hello'.split(' ', 2) == ['hello', 'hello hello'] && 'tacocat'.substring(0, 4) == 'taco' && 'tacocat'.charAt(3) == 'o' && strings.quote('a\"b') == '\"a\\\\\"b\"'",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && ['a', 'b'].join('-') == 'a-b' && 'abc'.substring(1) == 'bc'",
        "'aXbX'.replace('X', 'y') == 'ayby' && 'AbC'.lowerAscii() == 'abc' && ' x '.trim() == 'x' && 'tacocat'.lastIndexOf('a') == 5",
        "'%s is %d, %.2f %x'.format(['a', 3, 1.5, 255]) == 'a is 3, 1.50 ff'",
        "'abc 123 de 45'.find('[0-9]+') == '123' && 'abc 123 de 45'.findAll('[0-9]+') == ['123', '45']",
        "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('50k').asInteger() == 50000 && quantity('1.5').add(quantity('500m')).compareTo(quantity('2')) == 0 && !isQuantity('x')",
        "ip('10.0.0.1').family() == 4 && isIP('::1') && cidr('10.0.0.0/8').containsIP('10.2.3.4') && cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && !isIP('1.2.3') && ip.isCanonical('::1')",
        "url('https://example.com:8443/a?x=1').getHostname() == 'example.com' && url('https://example.com:8443/a').getPort() == '8443' && url('/p/q').getEscapedPath() == '/p/q' && !isURL('a b')",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && isSemver('v1.2', true) && semver('v1.2', true).minor() == 2",
        "!format.dns1123Label().validate('my-name').hasValue() && format.named('dns1123Label').value().validate('X').hasValue()",
        "sets.contains([1, 2, 3], [2]) && sets.equivalent([1, 2], [2, 1]) && !sets.intersects([1], [2])",
        "false && 1 / 0 == 1 || true",
        "[1 / 1, 2].exists(x, x == 2) && (true || self.m['nope'] == '')",
        "string(3) + string(true) == '3true' && int('7') == 7 && double('1.5') == 1.5 && bytes('a') == b'a'",
        "dyn(1) == dyn(1.0) && type(1) == int && type('') != int",
    ] {
        assert_eq!(run(source), Ok(Val::Bool(true)), "{source}");
    }
}

#[test]
fn run_time_errors_read_as_upstreams() {
    for (source, expected) in [
        ("self.m['nope'] == ''", "no such key: nope"),
        ("self.q == ''", "no such key: q"),
        ("self.l[9] == 1", "index out of bounds: 9"),
        ("1 / (self.n - 3) == 1", "division by zero"),
        ("9223372036854775807 + self.n > 0", "integer overflow"),
        ("optional.none().value() == 1", "optional.none() dereference"),
        ("self.s.matches('(')", "error parsing regexp: invalid pattern: `(`"),
    ] {
        assert_eq!(run(source).unwrap_err().to_string(), expected, "{source}");
    }
}

#[test]
fn compile_errors_read_as_upstreams() {
    let declarations = Declarations::default().with("self", declare(&schema(), false));
    for (source, expected) in [
        ("self.nope == 1", "ERROR: <input>:1:5: undefined field 'nope'\n | self.nope == 1\n | ....^"),
        ("other == 1", "ERROR: <input>:1:1: undeclared reference to 'other' (in container '')\n | other == 1\n | ^"),
        (
            "self.n == 'x'",
            "ERROR: <input>:1:8: found no matching overload for '_==_' applied to '(int, string)'\n | self.n == 'x'\n | .......^",
        ),
        (
            "self.n.startsWith('x')",
            "ERROR: <input>:1:8: found no matching overload for 'startsWith' applied to 'int.(string)'\n | self.n.startsWith('x')\n | .......^",
        ),
    ] {
        let error = Program::compile(source, &declarations).unwrap_err().to_string();
        assert_eq!(error, format!("compilation failed: {expected}"), "{source}");
    }
    for source in [
        "",
        "1 +",
        "self.l.all(1, true)",
        "self.n ? 1 : 2",
        "unknown(1)",
        "self.n.all(x, true)",
        "has(self)",
        "Foo{a: 1}",
        "'a' < 1",
        "!self.n",
        // Not in Kubernetes' environment.
        "cel.bind(x, self.n, x == 3)",
        "'abc'.reverse() == 'cba'",
        "[1, 'a'].size() == 2",
        "[dyn(1), 'a'].size() == 2",
        "{'a': 1, 'b': 'c'}.size() == 2",
        "{'a': 1, 2: 3}.size() == 2",
    ] {
        assert!(Program::compile(source, &declarations).is_err(), "{source}");
    }
}

#[test]
fn all_problems_are_told() {
    let declarations = Declarations::default().with("self", declare(&schema(), false));
    let told = |source: &str| Program::compile(source, &declarations).expect_err("refused").to_string();
    assert_eq!(
        told("self.no == 1 && self.nor == 2"),
        "compilation failed: ERROR: <input>:1:5: undefined field 'no'\n | self.no == 1 && self.nor == 2\n | ....^\n\
         ERROR: <input>:1:21: undefined field 'nor'\n | self.no == 1 && self.nor == 2\n | ....................^"
    );
    assert_eq!(
        told("[1, 'a'] == [1, 2]"),
        "compilation failed: ERROR: <input>:1:6: expected type 'int' but found 'string'\n | [1, 'a'] == [1, 2]\n | .....^"
    );
    let many = format!("[{}]", vec!["self.no"; 150].join(", "));
    let told = told(&many);
    assert!(told.matches("ERROR").count() < 100 && told.len() < 70_000, "{told}");
}

#[test]
fn hostile_expressions_are_stopped() {
    for source in [
        "[0,1,2,3,4,5,6,7,8,9].all(a, [0,1,2,3,4,5,6,7,8,9].all(b, [0,1,2,3,4,5,6,7,8,9].all(c, [0,1,2,3,4,5,6,7,8,9].all(d, [0,1,2,3,4,5,6,7,8,9].all(e, [0,1,2,3,4,5,6,7,8,9].all(f, [0,1,2,3,4,5,6,7,8,9].all(g, true)))))))",
        "['xxxxxxxxxxxxxxxxxxxx'].map(a, a.replace('x', a)).map(b, b.replace('x', b)).map(c, c.replace('x', c)).all(d, d.replace('x', d).size() > 0)",
        "[[1,1,1,1,1,1,1,1,1,1]].map(a, a.map(x, a)).map(b, b.map(x, b)).map(c, c.map(x, c)).all(d, d.map(x, d).map(y, d.map(z, d)).map(y, d.map(z, d)).map(y, y == y).size() > 100000)",
    ] {
        let outcome = run(source);
        assert!(matches!(outcome, Err(EvalError::Budget) | Ok(_)), "{outcome:?}");
    }
    for source in
        [vec!["1"; 20_000].join("+"), "(".repeat(5000), "[".repeat(500) + &"]".repeat(500), "a.".repeat(3000) + "b"]
    {
        assert!(Program::compile(&source, &Declarations::default()).is_err());
    }
}

fn judge(document: Value, object: Value, old: Option<Value>) -> Vec<String> {
    let schema = Schema::parse(&document).unwrap();
    let (rules, errors) = Rules::compile(&schema, &Path::new("schema"));
    assert_eq!(errors, []);
    rules.validate(&schema, &object, old.as_ref()).errors.iter().map(ToString::to_string).collect()
}

#[test]
fn what_an_update_leaves_alone_is_tolerated() {
    let document = json!({"type": "object", "properties": {
        "n": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 5"}]},
        "grows": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > oldSelf"}]},
        "set": {"type": "array", "maxItems": 9, "items": {
            "type": "integer", "x-kubernetes-validations": [{"rule": "self > 5"}]}}}});
    let schema = Schema::parse(&document).unwrap();
    let (rules, errors) = Rules::compile(&schema, &Path::new("schema"));
    assert_eq!(errors, []);
    let judge = |new: Value, old: Value| {
        let verdict = rules.validate(&schema, &new, Some(&old));
        let paths = |errors: &[base_meta::field::Error]| errors.iter().map(|e| e.field.clone()).collect::<Vec<_>>();
        (paths(&verdict.errors), paths(&verdict.tolerated))
    };
    let none = Vec::<String>::new();
    let old = json!({"n": 1, "grows": 1, "set": [2]});
    // Its own value, and one that is part of a list that is as it was.
    let grown = json!({"n": 1, "grows": 2, "set": [2]});
    assert_eq!(judge(grown, old.clone()), (none.clone(), vec!["n".into(), "set[0]".into()]));
    // A list whose items nothing tells apart changed as a whole.
    let longer = json!({"n": 9, "grows": 2, "set": [2, 6]});
    assert_eq!(judge(longer, old.clone()), (vec!["set[0]".into()], none.clone()));
    // About the change itself: not to change is one.
    assert_eq!(judge(old.clone(), old.clone()), (vec!["grows".into()], vec!["n".into(), "set[0]".into()]));
}

#[test]
fn rules_run_where_they_stand() {
    let spec = json!({"type": "object", "properties": {"spec": {
        "type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.min <= self.max", "message": "min must not exceed max"},
            {"rule": "self.max < 100", "messageExpression": "'max is ' + string(self.max)", "fieldPath": ".max", "reason": "FieldValueForbidden"},
            {"rule": "self.name == oldSelf.name"}],
        "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string", "maxLength": 10},
            "ports": {"type": "array", "maxItems": 10, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"], "items": {
                "type": "object", "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v"}],
                "properties": {"n": {"type": "integer"}, "v": {"type": "integer"}}}}}}}});
    let of = |spec: Value| json!({ "spec": spec });
    assert_eq!(judge(spec.clone(), of(json!({"min": 1, "max": 2, "name": "a"})), None), Vec::<String>::new());
    assert_eq!(
        judge(spec.clone(), of(json!({"min": 500, "max": 200, "name": "a"})), None),
        [r#"spec: Invalid value: "object": min must not exceed max"#, "spec.max: Forbidden: max is 200"]
    );
    let old = of(json!({"min": 1, "max": 2, "name": "a", "ports": [{"n": 1, "v": 5}, {"n": 2, "v": 5}]}));
    assert_eq!(
        judge(
            spec.clone(),
            of(json!({"min": 1, "max": 2, "name": "b", "ports": [{"n": 2, "v": 4}, {"n": 1, "v": 6}]})),
            Some(old)
        ),
        [
            r#"spec: Invalid value: "object": failed rule: self.name == oldSelf.name"#,
            r#"spec.ports[0]: Invalid value: "object": failed rule: self.v >= oldSelf.v"#
        ]
    );
    assert_eq!(
        judge(spec, of(json!({"max": 1, "name": "a"})), None),
        [r#"spec: Invalid value: "object": no such key: min evaluating rule: min must not exceed max"#]
    );
}

#[test]
fn rules_that_could_cost_too_much_are_refused() {
    let dear = json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "string"},
        "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x == y))"}]}}});
    let (_, errors) = Rules::compile(&Schema::parse(&dear).unwrap(), &Path::new("openAPIV3Schema"));
    assert_eq!(
        errors[0].to_string(),
        "openAPIV3Schema.properties[l].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    );
    let wrong = json!({"type": "object", "x-kubernetes-validations": [{"rule": "1"}, {"rule": "self.x"}]});
    let (_, errors) = Rules::compile(&Schema::parse(&wrong).unwrap(), &Path::new("openAPIV3Schema"));
    assert_eq!(errors[0].detail, "cel expression must evaluate to a bool");
    assert_eq!(errors.len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Any text compiles or is refused, and what compiles ends.
    #[test]
    fn any_text_is_answered(parts in prop::collection::vec(prop_oneof![
        Just("self".to_owned()), Just(".n".into()), Just(".l".into()), Just(".map(x, x)".into()), Just(".all(x, ".into()),
        Just(")".into()), Just("(".into()), Just(" + ".into()), Just("1".into()), Just("'é'".into()), Just(" ? ".into()),
        Just(" : ".into()), Just("[".into()), Just("]".into()), Just("{".into()), Just("}".into()), Just("dyn(".into()),
        Just(" in ".into()), Just(".?s".into()), Just(".size()".into()), Just("\\".into()), Just("`".into()), ".{0,3}"], 0..12)) {
        let source: String = parts.concat();
        let declarations = Declarations::default().with("self", declare(&schema(), false)).with("x", Ty::from(crate::Kind::Dyn));
        if let Ok(program) = Program::compile(&source, &declarations) {
            let value = to_value(&schema(), false, &json!({"n": 1, "l": [1, 2], "s": "x"}));
            let variables = BTreeMap::from([("self", value), ("x", Val::Null)]);
            let _any = program.evaluate(&variables, &mut Budget::new(PER_CALL_LIMIT));
        }
    }
}
