use super::*;
use crate::fixture::{Fixture, zone};

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

/// The code, then each section's records, as dig writes them.
fn ask(text: &str, kind: RecordType) -> Vec<String> {
    let (reply, rest) = match zone().answer(&Fixture::new(), &name(text), kind) {
        Outcome::Ours(reply) => (reply, None),
        Outcome::Foreign => return vec!["foreign".into()],
        Outcome::Alias(reply, target) => (reply, Some(format!("then {target}"))),
    };
    assert!(reply.authoritative || reply.code == ResponseCode::Refused);
    let mut lines = vec![format!("{:?}", reply.code)];
    for (section, records) in [("", &reply.answers), ("auth ", &reply.authority), ("more ", &reply.additional)] {
        lines.extend(records.iter().map(|record| format!("{section}{record}")));
    }
    lines.extend(rest);
    lines
}

const SOA: &str = "cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5";

#[test]
fn the_apex_says_who_answers() {
    assert_eq!(ask("cluster.local.", RecordType::SOA), ["NoError", SOA]);
    assert_eq!(
        ask("cluster.local.", RecordType::NS),
        [
            "NoError",
            "cluster.local. 5 IN NS kube-dns.kube-system.svc.cluster.local.",
            "more kube-dns.kube-system.svc.cluster.local. 5 IN A 10.3.0.10",
        ]
    );
    assert_eq!(ask("cluster.local.", RecordType::A), ["NoError".to_owned(), format!("auth {SOA}")]);
    assert_eq!(ask("local.", RecordType::SOA), ["foreign"]);
    assert_eq!(ask("notcluster.local.", RecordType::A), ["foreign"]);
    assert_eq!(ask("cluster.local.", RecordType::AXFR), ["Refused"]);
}

#[test]
fn no_comes_with_the_time_it_may_be_remembered() {
    assert_eq!(ask("gone.default.svc.cluster.local.", RecordType::A), ["NXDomain".to_owned(), format!("auth {SOA}")]);
    assert_eq!(ask("web.default.svc.cluster.local.", RecordType::MX), ["NoError".to_owned(), format!("auth {SOA}")]);
    assert_eq!(ask("web.default.svc.cluster.local.", RecordType::ANY), ["NoError".to_owned(), format!("auth {SOA}")]);
}

#[test]
fn names_are_read_in_any_case_and_answered_as_asked() {
    assert_eq!(
        ask("wEb.Default.SVC.cluster.LOCAL.", RecordType::A),
        ["NoError", "wEb.Default.SVC.cluster.LOCAL. 5 IN A 10.3.0.8"]
    );
    assert_eq!(
        ask("dns-version.cluster.local.", RecordType::TXT),
        ["NoError", "dns-version.cluster.local. 28800 IN TXT 1.1.0"]
    );
}

#[test]
fn aliases_are_followed_within_the_cluster_and_handed_on_outside() {
    assert_eq!(
        ask("alias-of-alias.default.svc.cluster.local.", RecordType::A),
        [
            "NoError",
            "alias-of-alias.default.svc.cluster.local. 5 IN CNAME alias.default.svc.cluster.local.",
            "alias.default.svc.cluster.local. 5 IN CNAME web.default.svc.cluster.local.",
            "web.default.svc.cluster.local. 5 IN A 10.3.0.8",
        ]
    );
    let foo = "foo.default.svc.cluster.local. 5 IN CNAME www.example.com.";
    assert_eq!(ask("foo.default.svc.cluster.local.", RecordType::A), ["NoError", foo, "then www.example.com."]);
    assert_eq!(ask("foo.default.svc.cluster.local.", RecordType::CNAME), ["NoError", foo]);
    let lines = ask("to-nothing.default.svc.cluster.local.", RecordType::A);
    assert_eq!(lines[0], "NXDomain", "{lines:?}");
    assert_eq!(lines.len(), 3, "the alias and the SOA: {lines:?}");
    let lines = ask("loop.default.svc.cluster.local.", RecordType::A);
    assert_eq!(lines.len(), 3, "two aliases and no end: {lines:?}");
}

#[test]
fn addresses_are_answered_by_name_where_they_are_the_clusters() {
    let pet = "100.0.3.10.in-addr.arpa.";
    assert_eq!(
        ask(pet, RecordType::PTR),
        ["NoError", "100.0.3.10.in-addr.arpa. 5 IN PTR my-pet.headless.default.svc.cluster.local."]
    );
    assert_eq!(ask(pet, RecordType::TXT)[0], "NoError");
    let six = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.4.0.0.0.0.d.f.ip6.arpa.";
    assert_eq!(
        ask(six, RecordType::PTR),
        ["NoError".to_owned(), format!("{six} 5 IN PTR both.default.svc.cluster.local.")]
    );
    let lines = ask("77.0.42.10.in-addr.arpa.", RecordType::PTR);
    assert!(lines[0] == "NXDomain" && lines[1].starts_with("auth in-addr.arpa. 5 IN SOA"), "{lines:?}");
    for foreign in ["1.2.0.192.in-addr.arpa.", "0.42.10.in-addr.arpa.", "x.0.42.10.in-addr.arpa.", "a.b.c.d.e.f."] {
        assert_eq!(ask(foreign, RecordType::PTR), ["foreign"], "{foreign}");
    }
}

#[test]
fn every_endpoint_has_its_turn_to_be_first() {
    let (zone, view, asked) = (zone(), Fixture::new(), name("headless.default.svc.cluster.local."));
    let first = || match zone.answer(&view, &asked, RecordType::A) {
        Outcome::Ours(reply) => reply.answers[0].data.to_string(),
        _ => panic!("ours"),
    };
    assert_eq!([first(), first(), first()], ["10.3.0.100", "10.3.0.101", "10.3.0.102"]);
}

#[test]
fn a_domain_is_needed() {
    assert!(Zone::new("", Vec::new(), Vec::new()).is_none());
    assert!(Zone::new("a..b", Vec::new(), Vec::new()).is_none());
}
