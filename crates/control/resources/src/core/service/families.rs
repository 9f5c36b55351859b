//! `ipFamilies` and `ipFamilyPolicy`: which families a Service has addresses of. Pure; upstream's `initIPFamilyFields`.

use api::service::{is_headless, needs_cluster_ip};
use base_meta::field::{Error, Path};
use k8s_openapi::api::core::v1::ServiceSpec;
use serde_json::json;

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// Fills both fields, and drops the second family where the policy says so; `ours` are the cluster's families, the one
/// of Services that do not say first. `before` is the spec that an update replaces.
pub(super) fn fill(spec: &mut ServiceSpec, before: Option<&ServiceSpec>, ours: &[&str]) -> Result<(), Vec<Error>> {
    // A Service that prefers two families keeps what it has when the cluster gains or loses one.
    if !needs_cluster_ip(spec) || before.is_some_and(|before| prefers_as_before(spec, before)) {
        return Ok(());
    }
    let unrouted = is_headless(spec) && spec.selector.as_ref().is_none_or(|all| all.is_empty());
    let former = before.and_then(|before| before.ip_family_policy.clone());
    let default = if unrouted { REQUIRE } else { SINGLE };
    let policy = spec.ip_family_policy.get_or_insert_with(|| former.unwrap_or_else(|| default.to_owned())).clone();
    let mut errors = Vec::new();
    if let Some(before) = before {
        release_second(spec, before, &policy, &mut errors);
    }
    if policy == SINGLE {
        for (count, what) in [(ips(spec).len(), "cluster IPs"), (families(spec).len(), "IP families")] {
            if count == 2 {
                let problem =
                    format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
                errors.push(Error::invalid(&policy_path(), &policy, problem));
            }
        }
    }
    infer_from_addresses(spec, ours, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let two = policy != SINGLE;
    if unrouted {
        // Nothing of such a service is ours to route: its endpoints may be of any family.
        complete(spec, ours, two);
        return Ok(());
    }
    if policy == REQUIRE && ours.len() < 2 {
        let problem = "this cluster is not configured for dual-stack services";
        errors.push(Error::invalid(&policy_path(), &policy, problem));
    }
    for (index, family) in families(spec).iter().enumerate().filter(|(_, family)| !ours.contains(&family.as_str())) {
        let path = Path::new("spec").child("ipFamilies").index(index);
        errors.push(Error::invalid(&path, family, "not configured on this cluster"));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    complete(spec, ours, two && ours.len() == 2);
    Ok(())
}

fn prefers_as_before(spec: &ServiceSpec, before: &ServiceSpec) -> bool {
    let prefers = |spec: &ServiceSpec| spec.ip_family_policy.as_deref() == Some(PREFER);
    prefers(spec) && prefers(before) && ips(spec) == ips(before) && families(spec) == families(before)
}

/// Going back to one family takes the policy and nothing else; taking an address away without saying so is a mistake.
fn release_second(spec: &mut ServiceSpec, before: &ServiceSpec, policy: &str, errors: &mut Vec<Error>) {
    if policy == SINGLE {
        if ips(spec) == ips(before)
            && let Some(list) = &mut spec.cluster_ips
        {
            list.truncate(1);
        }
        if families(spec) == families(before)
            && let Some(list) = &mut spec.ip_families
        {
            list.truncate(1);
        }
        return;
    }
    let reduced = |now: &[String], before: &[String]| !now.is_empty() && now.len() == 1 && before.len() == 2;
    for (now, before, what) in [(ips(spec), ips(before), "cluster IP"), (families(spec), families(before), "IP family")]
    {
        if reduced(now, before) && now[0] == before[0] {
            let problem = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(Error::invalid(&policy_path(), policy, problem));
        }
    }
}

/// An address asked for says its family.
fn infer_from_addresses(spec: &mut ServiceSpec, ours: &[&str], errors: &mut Vec<Error>) {
    let all = ips(spec).to_vec();
    for (index, ip) in all.iter().enumerate().filter(|(_, ip)| *ip != "None") {
        if index < families(spec).len() {
            continue;
        }
        let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
        if ours.contains(&family) {
            spec.ip_families.get_or_insert_default().push(family.to_owned());
        } else {
            let path = Path::new("spec").child("clusterIPs").index(index);
            errors.push(Error::invalid(&path, &json!(all), format!("{family} is not configured on this cluster")));
        }
    }
}

fn complete(spec: &mut ServiceSpec, ours: &[&str], two: bool) {
    let families = spec.ip_families.get_or_insert_default();
    if families.is_empty() {
        families.extend(ours.first().map(|first| (*first).to_owned()));
    }
    if two && let [only] = &families[..] {
        let other = if only == "IPv4" { "IPv6" } else { "IPv4" };
        families.push(other.to_owned());
    }
}

fn ips(spec: &ServiceSpec) -> &[String] {
    spec.cluster_ips.as_deref().unwrap_or_default()
}

fn families(spec: &ServiceSpec) -> &[String] {
    spec.ip_families.as_deref().unwrap_or_default()
}

fn policy_path() -> Path {
    Path::new("spec").child("ipFamilyPolicy")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn spec(value: Value) -> ServiceSpec {
        serde_json::from_value(value).expect("a service spec")
    }

    fn filled_on(ours: &[&str], value: Value, before: Option<Value>) -> Result<(Value, Value, Value), String> {
        let mut spec = spec(value);
        let before = before.map(self::spec);
        let said = |errors: Vec<Error>| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        fill(&mut spec, before.as_ref(), ours).map_err(said)?;
        let json = serde_json::to_value(spec).expect("JSON");
        Ok((json["ipFamilies"].clone(), json["ipFamilyPolicy"].clone(), json["clusterIPs"].clone()))
    }

    fn filled(value: Value) -> Result<(Value, Value), String> {
        filled_on(&["IPv4"], value, None).map(|(families, policy, _)| (families, policy))
    }

    fn dual(value: Value) -> Result<(Value, Value), String> {
        filled_on(&["IPv6", "IPv4"], value, None).map(|(families, policy, _)| (families, policy))
    }

    #[test]
    fn one_family() {
        let single = Ok((json!(["IPv4"]), json!("SingleStack")));
        assert_eq!(filled(json!({})), single);
        assert_eq!(filled(json!({"clusterIP": "None", "selector": {"a": "b"}})), single);
        assert_eq!(
            filled(json!({"ipFamilyPolicy": "PreferDualStack"})),
            Ok((json!(["IPv4"]), json!("PreferDualStack")))
        );
        assert_eq!(filled(json!({"clusterIP": "None"})), Ok((json!(["IPv4", "IPv6"]), json!("RequireDualStack"))));
        assert_eq!(filled(json!({"type": "ExternalName"})), Ok((Value::Null, Value::Null)));
    }

    #[test]
    fn two_families() {
        assert_eq!(dual(json!({})), Ok((json!(["IPv6"]), json!("SingleStack"))));
        let both = |policy: &str| Ok((json!(["IPv6", "IPv4"]), json!(policy)));
        assert_eq!(dual(json!({"ipFamilyPolicy": "PreferDualStack"})), both("PreferDualStack"));
        assert_eq!(dual(json!({"ipFamilyPolicy": "RequireDualStack"})), both("RequireDualStack"));
        let turned = json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4"]});
        assert_eq!(dual(turned), Ok((json!(["IPv4", "IPv6"]), json!("RequireDualStack"))));
        let asked = json!({"clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9"]});
        assert_eq!(dual(asked), Ok((json!(["IPv4"]), json!("SingleStack"))));
    }

    #[test]
    fn what_the_cluster_cannot_give() {
        let policy = "spec.ipFamilyPolicy: Invalid value: ";
        assert_eq!(
            filled(json!({"ipFamilyPolicy": "RequireDualStack"})),
            Err(format!("{policy}\"RequireDualStack\": this cluster is not configured for dual-stack services"))
        );
        assert_eq!(
            filled(json!({"ipFamilies": ["IPv6"]})),
            Err("spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster".into())
        );
        assert_eq!(
            filled(json!({"clusterIP": "fd43::9", "clusterIPs": ["fd43::9"]})),
            Err("spec.clusterIPs[0]: Invalid value: [\"fd43::9\"]: IPv6 is not configured on this cluster".into())
        );
        let must = "must be 'RequireDualStack' or 'PreferDualStack' when multiple";
        assert_eq!(
            dual(json!({"ipFamilies": ["IPv4", "IPv6"]})),
            Err(format!("{policy}\"SingleStack\": {must} IP families are specified"))
        );
        assert_eq!(
            dual(json!({"clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9", "fd43::9"]})),
            Err(format!("{policy}\"SingleStack\": {must} cluster IPs are specified"))
        );
    }

    #[test]
    fn a_second_family_comes_and_goes_by_the_policy() {
        let both = ["IPv4", "IPv6"];
        let one = json!({"clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack"});
        let two = json!({"clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9", "fd43::9"],
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"});
        let with = |base: &Value, policy: &str| {
            let mut value = base.clone();
            value["ipFamilyPolicy"] = json!(policy);
            value
        };
        // Up: the second address is yet to be taken.
        assert_eq!(
            filled_on(&both, with(&one, "PreferDualStack"), Some(one.clone())),
            Ok((json!(["IPv4", "IPv6"]), json!("PreferDualStack"), json!(["10.43.0.9"])))
        );
        // Down.
        assert_eq!(
            filled_on(&both, with(&two, "SingleStack"), Some(two.clone())),
            Ok((json!(["IPv4"]), json!("SingleStack"), json!(["10.43.0.9"])))
        );
        let mut less = two.clone();
        less["clusterIPs"] = json!(["10.43.0.9"]);
        assert_eq!(
            filled_on(&both, less, Some(two)),
            Err("spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary cluster IP".into())
        );
        // A cluster that becomes dual-stack upgrades nobody who did not ask.
        let prefers = with(&one, "PreferDualStack");
        assert_eq!(
            filled_on(&both, prefers.clone(), Some(prefers)),
            Ok((json!(["IPv4"]), json!("PreferDualStack"), json!(["10.43.0.9"])))
        );
    }
}
