//! What becomes of a request for a certificate: whom to ask whether it may be approved, whether its signer may sign it, and
//! when it is forgotten. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use api::signing_request::Asked;
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// A permission, a subresource of `certificatesigningrequests`, whose holder's request is approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recognized {
    pub subresource: &'static str,
    pub message: &'static str,
}

const SELF: Recognized = Recognized {
    subresource: "selfnodeclient",
    message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
};
const NODE: Recognized = Recognized {
    subresource: "nodeclient",
    message: "Auto approving kubelet client certificate after SubjectAccessReview.",
};

/// Upstream leaves these to whoever runs the cluster. Here a node's own certificate is approved that names nothing but
/// this node: what the API server calls it by.
pub const SERVING: &str = "Auto approving the serving certificate of a node for its own name and addresses.";

/// The Node whose serving certificate is asked for by itself, with what is to be in it; `None`: it is something else, or
/// was decided already.
pub fn serves(request: &CertificateSigningRequest) -> Option<(String, Asked)> {
    let asked = undecided(request).filter(|_| request.spec.signer_name == KUBELET_SERVING)?;
    kubelet_serving(&asked, &usages(request)).ok()?;
    let node = asked.common_name.strip_prefix("system:node:")?.to_owned();
    let itself = request.spec.username.as_deref() == Some(&*asked.common_name);
    let a_node = request.spec.groups.iter().flatten().any(|group| group == "system:nodes");
    (itself && a_node).then_some((node, asked))
}

/// Whether all the names asked for are the node's own.
pub fn names_only(asked: &Asked, node: &str, addresses: &[String]) -> bool {
    let address = |bytes: &Vec<u8>| {
        let four = <[u8; 4]>::try_from(&**bytes).map(IpAddr::from);
        four.or_else(|_| <[u8; 16]>::try_from(&**bytes).map(IpAddr::from)).ok()
    };
    let own = |ip: IpAddr| addresses.iter().any(|address| address.parse() == Ok(ip));
    asked.dns_names.iter().all(|name| name == node || addresses.contains(name))
        && asked.ip_addresses.iter().all(|bytes| address(bytes).is_some_and(own))
}

/// What is asked for, while nobody has decided it.
fn undecided(request: &CertificateSigningRequest) -> Option<Asked> {
    let decided = issued(request) || has(request, "Approved") || has(request, "Denied");
    Asked::parse(&request.spec.request.0).ok().filter(|_| !decided)
}

fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    let conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == kind)
}

fn issued(request: &CertificateSigningRequest) -> bool {
    let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.is_some_and(|certificate| !certificate.0.is_empty())
}

/// Which permissions, in this order, would approve it by themselves.
pub fn recognized(request: &CertificateSigningRequest) -> Vec<Recognized> {
    let spec = &request.spec;
    let Some(asked) = undecided(request) else { return Vec::new() };
    if spec.signer_name != KUBELET_CLIENT || kubelet_client(&asked, &usages(request)).is_err() {
        return Vec::new();
    }
    if spec.username.as_deref() == Some(&asked.common_name) { vec![SELF, NODE] } else { vec![NODE] }
}

/// What its signer does now.
#[derive(Debug, PartialEq, Eq)]
pub enum Signing {
    /// Nothing: not approved, done, failed, or another signer's.
    Not,
    Sign(Box<Asked>),
    /// It is what its signer never signs.
    Refuse(String),
}

pub fn signing(request: &CertificateSigningRequest) -> Signing {
    let approved = has(request, "Approved") && !has(request, "Denied");
    if !approved || has(request, "Failed") || issued(request) {
        return Signing::Not;
    }
    let Ok(asked) = Asked::parse(&request.spec.request.0) else { return Signing::Not };
    let usages = usages(request);
    let checked = match request.spec.signer_name.as_str() {
        KUBELET_CLIENT => kubelet_client(&asked, &usages),
        KUBELET_SERVING => kubelet_serving(&asked, &usages),
        CLIENT => client(request),
        _ => return Signing::Not,
    };
    match checked {
        Ok(()) => Signing::Sign(Box::new(asked)),
        Err(why) => Signing::Refuse(why),
    }
}

fn usages(request: &CertificateSigningRequest) -> BTreeSet<&str> {
    request.spec.usages.iter().flatten().map(String::as_str).collect()
}

/// Digital signature and `purpose`, with or without key encipherment, which only RSA keys need.
fn required(usages: &BTreeSet<&str>, purpose: &str) -> Result<(), String> {
    let mut rest: BTreeSet<&str> = usages.clone();
    rest.remove("key encipherment");
    if rest == BTreeSet::from(["digital signature", purpose]) {
        return Ok(());
    }
    let mut all = ["digital signature", "key encipherment", purpose];
    all.sort_unstable();
    Err(format!("usages did not match [{}]", all.join(" ")))
}

fn of_nodes(asked: &Asked) -> Result<(), String> {
    let nodes = asked.organizations == ["system:nodes"];
    nodes.then_some(()).ok_or_else(|| "subject organization is not system:nodes".to_owned())
}

fn of_a_node(asked: &Asked) -> Result<(), String> {
    let node = asked.common_name.starts_with("system:node:");
    node.then_some(()).ok_or_else(|| "subject common name does not begin with system:node:".to_owned())
}

fn none<T>(of: &[T], kind: &str) -> Result<(), String> {
    of.is_empty().then_some(()).ok_or_else(|| format!("{kind} subjectAltNames are not allowed"))
}

fn kubelet_client(asked: &Asked, usages: &BTreeSet<&str>) -> Result<(), String> {
    of_nodes(asked)?;
    none(&asked.dns_names, "DNS")?;
    none(&asked.emails, "Email")?;
    none(&asked.ip_addresses, "IP")?;
    none(&asked.uris, "URI")?;
    of_a_node(asked)?;
    required(usages, "client auth")
}

fn kubelet_serving(asked: &Asked, usages: &BTreeSet<&str>) -> Result<(), String> {
    of_nodes(asked)?;
    if asked.dns_names.is_empty() && asked.ip_addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    none(&asked.emails, "Email")?;
    none(&asked.uris, "URI")?;
    required(usages, "server auth")?;
    of_a_node(asked)
}

fn client(request: &CertificateSigningRequest) -> Result<(), String> {
    let usages = request.spec.usages.as_deref().unwrap_or_default();
    let known = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !known.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if !usages.iter().any(|usage| usage == "client auth") {
        return Err("missing required usage for client certificate: client auth".to_owned());
    }
    Ok(())
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const LEAST: Duration = Duration::from_secs(10 * 60);

/// How long the certificate is to hold: what was asked, within bounds.
pub fn duration(request: &CertificateSigningRequest) -> Duration {
    let asked = request.spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    asked.map_or(YEAR, |seconds| Duration::from_secs(seconds).clamp(LEAST, YEAR))
}

const HOUR: i64 = 60 * 60;

/// When it is forgotten: a day after it came where nobody decides, an hour after it was decided.
pub fn forgotten(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let after = |time: Timestamp, hours: i64| Timestamp::from_second(time.as_second() + hours * HOUR).ok();
    let conditions = request.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    if conditions.is_empty() {
        return after(request.metadata.creation_timestamp.as_ref()?.0, 24);
    }
    let done = |kind: &str| kind == "Denied" || kind == "Failed" || (kind == "Approved" && issued(request));
    let done = conditions.iter().filter(|condition| done(&condition.type_));
    let first = done.filter_map(|condition| Some(condition.last_update_time.as_ref()?.0)).min();
    let pending = |time: Timestamp| after(time, 24);
    match first {
        Some(time) => after(time, 1),
        // Approved, and nobody signs it.
        None => conditions
            .iter()
            .filter_map(|condition| Some(condition.last_update_time.as_ref()?.0))
            .max()
            .and_then(pending),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// CN=system:node:a, O=system:nodes.
    const NODE_REQUEST: &str = "MIHrMIGRAgEAMC8xFTATBgNVBAoMDHN5c3RlbTpub2RlczEWMBQGA1UEAwwNc3lz \
        dGVtOm5vZGU6YTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABD+jPsBnjv3vumw/ \
        BDgexZc0RlLeJyEmQHMFar9dYRmuVp3OzNbSzqHrmMZax5YwxTE9VjkjGMfkYDXb \
        eCygheigADAKBggqhkjOPQQDAgNJADBGAiEA1Kgw0besAw+uiPoe/LbFsm49CsWO \
        kZr6etvtwYmLqbECIQDxLxCqU1U+0T/MZ3w/ZgS/lmLIzfcZcKsiRyrQfH6yug==";
    /// The same with DNS a.example.
    const SERVING_REQUEST: &str = "MIIBETCBuAIBADAvMRUwEwYDVQQKDAxzeXN0ZW06bm9kZXMxFjAUBgNVBAMMDXN5 \
        c3RlbTpub2RlOmEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ/oz7AZ47977ps \
        PwQ4HsWXNEZS3ichJkBzBWq/XWEZrladzszW0s6h65jGWseWMMUxPVY5IxjH5GA1 \
        23gsoIXooCcwJQYJKoZIhvcNAQkOMRgwFjAUBgNVHREEDTALgglhLmV4YW1wbGUw \
        CgYIKoZIzj0EAwIDSAAwRQIhALfTIiyjBpafxdLyu71pNnabdinKiwD9hAWPbtq3 \
        z4lFAiBO1d5u7i3NvN8APw5vb0DeynvRIzlfcvvLObyNGWp7ow==";
    /// CN=jane, O=devs.
    const JANE: &str = "MIHZMIGAAgEAMB4xDTALBgNVBAoMBGRldnMxDTALBgNVBAMMBGphbmUwWTATBgcq \
        hkjOPQIBBggqhkjOPQMBBwNCAAQ/oz7AZ47977psPwQ4HsWXNEZS3ichJkBzBWq/ \
        XWEZrladzszW0s6h65jGWseWMMUxPVY5IxjH5GA123gsoIXooAAwCgYIKoZIzj0E \
        AwIDSAAwRQIga714v5o/FHzwzxmREdfg6tpkmi/gMWRbXHxd42D8SgoCIQDbexPb \
        M9JMV3CgGhmWferEcynCFb/vMpmM+S1rFHD8Jg==";

    fn made(pem: &str, signer: &str, usages: &[&str], rest: Value) -> CertificateSigningRequest {
        let pem = pem.replace(' ', "\n");
        let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{pem}\n-----END CERTIFICATE REQUEST-----\n");
        let mut value = json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"request": k8s_openapi::ByteString(pem.into_bytes()), "signerName": signer, "usages": usages}});
        for (name, value_) in rest.as_object().into_iter().flatten() {
            let into = if name == "status" { &mut value[name] } else { &mut value["spec"][name] };
            *into = value_.clone();
        }
        serde_json::from_value(value).expect("a request")
    }

    const CLIENT_USAGES: &[&str] = &["digital signature", "client auth"];
    const SERVER_USAGES: &[&str] = &["key encipherment", "digital signature", "server auth"];

    fn approved(certificate: Option<&str>) -> Value {
        json!({"status": {"certificate": certificate, "conditions": [
            {"type": "Approved", "status": "True", "lastUpdateTime": "2026-01-01T02:00:00Z"}]}})
    }

    #[test]
    fn only_nodes_own_clients_are_approved_by_themselves() {
        let asked = |request: &CertificateSigningRequest| {
            recognized(request).into_iter().map(|one| one.subresource).collect::<Vec<_>>()
        };
        let of = |pem, signer, usages, rest| asked(&made(pem, signer, usages, rest));
        assert_eq!(of(NODE_REQUEST, KUBELET_CLIENT, CLIENT_USAGES, json!({})), ["nodeclient"]);
        let own = json!({"username": "system:node:a"});
        assert_eq!(of(NODE_REQUEST, KUBELET_CLIENT, CLIENT_USAGES, own), ["selfnodeclient", "nodeclient"]);
        let none: [&str; 0] = [];
        assert_eq!(of(NODE_REQUEST, KUBELET_CLIENT, CLIENT_USAGES, approved(None)), none);
        assert_eq!(of(NODE_REQUEST, KUBELET_CLIENT, SERVER_USAGES, json!({})), none);
        assert_eq!(of(JANE, KUBELET_CLIENT, CLIENT_USAGES, json!({})), none);
        assert_eq!(of(SERVING_REQUEST, KUBELET_SERVING, SERVER_USAGES, json!({})), none);
    }

    #[test]
    fn a_node_serves_by_its_own_names_only() {
        let groups = json!(["system:nodes", "system:authenticated"]);
        let of = |username: &str, groups: &Value| {
            let rest = json!({"username": username, "groups": groups});
            serves(&made(SERVING_REQUEST, KUBELET_SERVING, SERVER_USAGES, rest)).map(|(node, _)| node)
        };
        assert_eq!(of("system:node:a", &groups).as_deref(), Some("a"));
        assert_eq!(of("system:node:b", &groups), None);
        assert_eq!(of("system:node:a", &json!(["system:authenticated"])), None);
        let decided = serves(&made(SERVING_REQUEST, KUBELET_SERVING, SERVER_USAGES, approved(None)));
        assert_eq!(decided, None);

        let asked = |dns: &[&str], ips: &[&[u8]]| Asked {
            dns_names: dns.iter().map(|name| (*name).to_owned()).collect(),
            ip_addresses: ips.iter().map(|ip| ip.to_vec()).collect(),
            ..Asked::default()
        };
        let addresses = ["192.0.2.1".to_owned(), "a.example".to_owned(), "fd00::1".to_owned()];
        let six: [u8; 16] = "fd00::1".parse::<std::net::Ipv6Addr>().expect("an address").octets();
        assert!(names_only(&asked(&["a", "a.example"], &[&[192, 0, 2, 1], &six]), "a", &addresses));
        assert!(!names_only(&asked(&["b"], &[]), "a", &addresses));
        assert!(!names_only(&asked(&["a"], &[&[192, 0, 2, 2]]), "a", &addresses));
        assert!(!names_only(&asked(&["a"], &[&[192, 0, 2]]), "a", &addresses));
    }

    #[test]
    fn a_signer_signs_what_it_is_for() {
        let table = [
            (NODE_REQUEST, KUBELET_CLIENT, CLIENT_USAGES, Ok(())),
            (SERVING_REQUEST, KUBELET_SERVING, SERVER_USAGES, Ok(())),
            (JANE, CLIENT, CLIENT_USAGES, Ok(())),
            (JANE, CLIENT, SERVER_USAGES, Err("invalid usage for client certificate: server auth")),
            (
                JANE,
                CLIENT,
                &["digital signature"][..],
                Err("missing required usage for client certificate: client auth"),
            ),
            (JANE, KUBELET_CLIENT, CLIENT_USAGES, Err("subject organization is not system:nodes")),
            (SERVING_REQUEST, KUBELET_CLIENT, CLIENT_USAGES, Err("DNS subjectAltNames are not allowed")),
            (NODE_REQUEST, KUBELET_SERVING, SERVER_USAGES, Err("DNS or IP subjectAltName is required")),
            (
                SERVING_REQUEST,
                KUBELET_SERVING,
                CLIENT_USAGES,
                Err("usages did not match [digital signature key encipherment server auth]"),
            ),
        ];
        for (pem, signer, usages, expected) in table {
            let found = match signing(&made(pem, signer, usages, approved(None))) {
                Signing::Sign(_) => Ok(()),
                Signing::Refuse(why) => Err(why),
                Signing::Not => panic!("{signer} {usages:?}"),
            };
            assert_eq!(found, expected.map_err(str::to_owned), "{signer} {usages:?}");
        }
        for rest in [
            json!({}),
            approved(Some("AAAA")),
            json!({"status": {"conditions": [{"type": "Denied", "status": "True"}]}}),
        ] {
            assert_eq!(signing(&made(JANE, CLIENT, CLIENT_USAGES, rest)), Signing::Not);
        }
        assert_eq!(signing(&made(JANE, "example.com/mine", CLIENT_USAGES, approved(None))), Signing::Not);
    }

    #[test]
    fn the_duration_asked_for_is_kept_within_bounds() {
        let of = |seconds: Value| duration(&made(JANE, CLIENT, CLIENT_USAGES, json!({"expirationSeconds": seconds})));
        assert_eq!(of(Value::Null), YEAR);
        assert_eq!(of(json!(3600)).as_secs(), 3600);
        assert_eq!((of(json!(1)), of(json!(i32::MAX))), (LEAST, YEAR));
    }

    #[test]
    fn what_is_decided_is_forgotten_first() {
        let of = |rest| forgotten(&made(JANE, CLIENT, CLIENT_USAGES, rest)).map(|time| time.to_string());
        assert_eq!(of(json!({})).as_deref(), Some("2026-01-02T00:00:00Z"));
        assert_eq!(of(approved(Some("AAAA"))).as_deref(), Some("2026-01-01T03:00:00Z"));
        assert_eq!(of(approved(None)).as_deref(), Some("2026-01-02T02:00:00Z"));
    }
}
