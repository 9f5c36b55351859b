//! PriorityLevelConfigurations.

use base_meta::field::{Error, Path};
use k8s_openapi::api::flowcontrol::v1::{
    LimitedPriorityLevelConfiguration, PriorityLevelConfiguration, PriorityLevelConfigurationSpec, QueuingConfiguration,
};

use super::flow_schema::condition_types;
use super::{Errors, normal, said};
use crate::flowcontrol;

const MAX_QUEUES: i32 = 10_000_000;
/// A hand is dealt from a hash of this many bits.
const MAX_HASH_BITS: u32 = 60;

pub fn priority_level(level: &PriorityLevelConfiguration) -> Errors {
    let mut errors = Errors::new();
    let (name, path) = (said(&level.metadata.name), Path::new("spec"));
    let none = PriorityLevelConfigurationSpec::default();
    let spec = level.spec.as_ref().unwrap_or(&none);
    if (name == "exempt") != (spec.type_ == "Exempt") {
        let detail = "type must be 'Exempt' if and only if name is 'exempt'";
        errors.push(Error::invalid(&path.child("type"), &spec.type_, detail));
    }
    by_type(spec, &path, &mut errors);
    if let Some((_, fixed)) = flowcontrol::mandatory_levels().into_iter().find(|(known, _)| *known == name) {
        let found = super::json(spec);
        // How much an exempt level lends may be changed; nothing else may.
        let mut compared = found.clone();
        if name == "exempt" {
            compared["exempt"] = fixed["exempt"].clone();
        }
        if normal(compared) != normal(fixed) {
            errors.push(Error::invalid(&path, &found, format!("spec of '{name}' must equal the fixed value")));
        }
    }
    errors.extend(priority_level_status(level));
    errors
}

pub fn priority_level_status(level: &PriorityLevelConfiguration) -> Errors {
    let conditions = level.status.iter().flat_map(|status| status.conditions.iter().flatten());
    condition_types(conditions.map(|condition| said(&condition.type_)))
}

fn by_type(spec: &PriorityLevelConfigurationSpec, path: &Path, errors: &mut Errors) {
    let (limited, exempt) = (path.child("limited"), path.child("exempt"));
    match spec.type_.as_str() {
        "Exempt" => {
            if spec.limited.is_some() {
                errors.push(Error::forbidden(&limited, "must be nil if the type is not Limited"));
            }
            if let Some(config) = &spec.exempt {
                if let Some(shares) = config.nominal_concurrency_shares.filter(|shares| *shares < 0) {
                    let path = exempt.child("nominalConcurrencyShares");
                    errors.push(Error::invalid(&path, shares, "must be a non-negative integer"));
                }
                percent(config.lendable_percent, &exempt, errors);
            }
        }
        "Limited" => {
            if spec.exempt.is_some() {
                errors.push(Error::forbidden(&exempt, "must be nil if the type is Limited"));
            }
            match &spec.limited {
                None => errors.push(Error::required(&limited, "must not be empty when type is Limited")),
                Some(config) => self::limited(config, &limited, errors),
            }
        }
        other => errors.push(Error::not_supported(&path.child("type"), other, &["Exempt", "Limited"])),
    }
}

fn percent(percent: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(percent) = percent.filter(|percent| !(0..=100).contains(percent)) {
        let path = path.child("lendablePercent");
        errors.push(Error::invalid(&path, percent, "must be between 0 and 100, inclusive"));
    }
}

fn limited(config: &LimitedPriorityLevelConfiguration, path: &Path, errors: &mut Errors) {
    if let Some(shares) = config.nominal_concurrency_shares.filter(|shares| *shares < 0) {
        let path = path.child("nominalConcurrencyShares");
        errors.push(Error::invalid(&path, shares, "must be a non-negative integer"));
    }
    let response = config.limit_response.clone().unwrap_or_default();
    let at = path.child("limitResponse");
    match (response.type_.as_str(), &response.queuing) {
        ("Reject", None) => {}
        ("Reject", Some(_)) => errors
            .push(Error::forbidden(&at.child("queuing"), "must be nil if limited.limitResponse.type is not Limited")),
        ("Queue", None) => errors
            .push(Error::required(&at.child("queuing"), "must not be empty if limited.limitResponse.type is Limited")),
        ("Queue", Some(config)) => queuing(config, &at.child("queuing"), errors),
        (other, _) => errors.push(Error::not_supported(&at.child("type"), other, &["Queue", "Reject"])),
    }
    percent(config.lendable_percent, path, errors);
    if let Some(limit) = config.borrowing_limit_percent.filter(|limit| *limit < 0) {
        let path = path.child("borrowingLimitPercent");
        errors.push(Error::invalid(&path, limit, "if specified, must be a non-negative integer"));
    }
}

fn queuing(config: &QueuingConfiguration, path: &Path, errors: &mut Errors) {
    let number = |slot: Option<i32>| slot.unwrap_or(0);
    let (length, queues, hand) = (number(config.queue_length_limit), number(config.queues), number(config.hand_size));
    let mut bad = |field: &str, value: i32, detail: String| {
        errors.push(Error::invalid(&path.child(field), value, detail));
    };
    let positive = || "must be positive".to_owned();
    if length <= 0 {
        bad("queueLengthLimit", length, positive());
    }
    if queues <= 0 {
        bad("queues", queues, positive());
    } else if queues > MAX_QUEUES {
        bad("queues", queues, format!("must not be greater than {MAX_QUEUES}"));
    }
    if hand <= 0 {
        bad("handSize", hand, positive());
    } else if hand > queues {
        bad("handSize", hand, format!("should not be greater than queues ({queues})"));
    } else if entropy(queues, hand) > MAX_HASH_BITS {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_HASH_BITS}"
        );
        bad("handSize", hand, detail);
    }
}

/// Bits that dealing a hand needs: the number of hands that can be told apart, in order.
fn entropy(deck: i32, hand: i32) -> u32 {
    let bits: f64 = (0..hand).map(|dealt| f64::from(deck - dealt).log2()).sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and not negative")]
    let bits = bits.ceil() as u32;
    bits
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    #[test]
    fn each_rule_names_its_field() {
        let base = json!({"metadata": {"name": "a"}, "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 1, "limitResponse": {"type": "Queue",
                "queuing": {"queues": 64, "handSize": 6, "queueLengthLimit": 50}}}}});
        let queuing = "limited/limitResponse/queuing";
        let table = [
            (
                "type".to_owned(),
                json!("X"),
                "type: Unsupported value: \"X\": supported values: \"Exempt\", \"Limited\"",
            ),
            ("type".to_owned(), json!("Exempt"), "type: Invalid value: \"Exempt\": type must be 'Exempt' if and only"),
            ("limited".to_owned(), Value::Null, "limited: Required value: must not be empty when type is Limited"),
            ("exempt".to_owned(), json!({}), "exempt: Forbidden: must be nil if the type is Limited"),
            (
                "limited/nominalConcurrencyShares".to_owned(),
                json!(-1),
                "limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer",
            ),
            ("limited/lendablePercent".to_owned(), json!(101), "limited.lendablePercent: Invalid value: 101: must be"),
            (
                "limited/limitResponse/type".to_owned(),
                json!("Reject"),
                "limited.limitResponse.queuing: Forbidden: must be nil",
            ),
            (format!("{queuing}/queues"), json!(0), "limited.limitResponse.queuing.queues: Invalid value: 0"),
            (
                format!("{queuing}/handSize"),
                json!(65),
                "limited.limitResponse.queuing.handSize: Invalid value: 65: should not be greater than queues (64)",
            ),
            (
                format!("{queuing}/handSize"),
                json!(20),
                "limited.limitResponse.queuing.handSize: Invalid value: 20: required entropy bits of deckSize 64",
            ),
        ];
        assert!(priority_level(&object(base.clone())).is_empty());
        for (pointer, value, expected) in table {
            let found = printed(priority_level(&object(with(&base, &[(&format!("/spec/{pointer}"), value)]))));
            let expected = format!("spec.{expected}");
            assert!(found.iter().any(|error| error.starts_with(&expected)), "{pointer}: {found:?}");
        }
    }

    #[test]
    fn what_every_cluster_has_is_valid_and_the_mandatory_stays() {
        let all = flowcontrol::mandatory_levels().into_iter().chain(flowcontrol::suggested_levels());
        for (name, spec) in all {
            let made: PriorityLevelConfiguration = object(json!({"metadata": {"name": name}, "spec": spec}));
            assert_eq!(printed(priority_level(&made)), [""; 0], "{name}");
        }
        let made = |name: &str, spec: Value| {
            printed(priority_level(&object(json!({"metadata": {"name": name}, "spec": spec}))))
        };
        assert!(made("exempt", json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 3}})).is_empty());
        let mut spec = flowcontrol::mandatory_levels().remove(1).1;
        spec["limited"]["nominalConcurrencyShares"] = json!(6);
        let found = made("catch-all", spec);
        assert!(found.len() == 1 && found[0].ends_with("spec of 'catch-all' must equal the fixed value"), "{found:?}");
    }
}
