//! `ipFamilies` and `ipFamilyPolicy` on a cluster with one address family.

use api::service::needs_cluster_ip;
use base_meta::field::{Error, Path};
use k8s_openapi::api::core::v1::ServiceSpec;

/// Fills both fields; `ours` is the cluster's family, `IPv4` or `IPv6`.
pub(super) fn fill(spec: &mut ServiceSpec, ours: &str) -> Result<(), Error> {
    if !needs_cluster_ip(spec) {
        return Ok(());
    }
    let path = Path::new("spec");
    let families = spec.ip_families.get_or_insert_default();
    // Nothing of such a service is ours to route: its endpoints may be of any family.
    let unrouted =
        spec.cluster_ip.as_deref() == Some("None") && spec.selector.as_ref().is_none_or(|all| all.is_empty());
    if unrouted {
        if families.is_empty() {
            families.push(ours.to_owned());
        }
        let policy = spec.ip_family_policy.get_or_insert_with(|| "RequireDualStack".to_owned());
        if families.len() == 1 && policy != "SingleStack" {
            let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
            families.push(other.to_owned());
        }
        return Ok(());
    }
    if spec.ip_family_policy.as_deref() == Some("RequireDualStack") {
        return Err(Error::invalid(
            &path.child("ipFamilyPolicy"),
            "RequireDualStack",
            "this cluster is not configured for dual-stack services",
        ));
    }
    if let Some(foreign) = families.iter().position(|family| family != ours) {
        let problem = "not configured on this cluster";
        return Err(Error::invalid(&path.child("ipFamilies").index(foreign), &families[foreign], problem));
    }
    if families.is_empty() {
        families.push(ours.to_owned());
    }
    spec.ip_family_policy.get_or_insert_with(|| "SingleStack".to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn filled(value: Value) -> Result<(Value, Value), String> {
        let mut spec: ServiceSpec = serde_json::from_value(value).expect("a service spec");
        fill(&mut spec, "IPv4").map_err(|error| error.to_string())?;
        let json = serde_json::to_value(spec).expect("JSON");
        Ok((json["ipFamilies"].clone(), json["ipFamilyPolicy"].clone()))
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
    fn what_the_cluster_cannot_give() {
        assert_eq!(
            filled(json!({"ipFamilyPolicy": "RequireDualStack"})),
            Err("spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services".into())
        );
        assert_eq!(
            filled(json!({"ipFamilies": ["IPv6"]})),
            Err("spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster".into())
        );
    }
}
