use super::*;
use crate::fixture::{Fixture, ip};

fn ask(name: &str, wanted: Wanted) -> Option<Answer> {
    let labels: Vec<&str> = name.split('.').filter(|label| !label.is_empty()).collect();
    resolve(&Fixture::new(), &[ip("10.3.0.10")], &labels, wanted)
}

/// `A 10.3.0.1`, `SRV 100 443 name`, and after a bar what is additional; `NXDOMAIN` and `NODATA` in their own words.
fn written(answer: Option<Answer>) -> String {
    let Some(answer) = answer else { return "NXDOMAIN".into() };
    let record = |found: &Found| match found {
        Found::Address(ip) => format!("A {ip}"),
        Found::Srv { weight, port, target } => format!("SRV {weight} {port} {target}"),
        Found::Cname(target) => format!("CNAME {target}"),
        Found::Version => "TXT".to_owned(),
    };
    let mut words: Vec<String> = answer.records.iter().map(record).collect();
    if words.is_empty() {
        return "NODATA".into();
    }
    words.extend(answer.additional.iter().map(|(name, ip)| format!("| {name} {ip}")));
    words.join(", ")
}

/// The specification's examples (section numbers of its text), then what it leaves open and CoreDNS decides.
#[test]
fn every_form_of_name() {
    use Wanted::{A, Aaaa, Other, Srv, Txt};
    let kubernetes = "kubernetes.default.svc";
    let all_pets = "SRV 33 443 10-3-0-102.headless.default.svc, SRV 33 443 my-pet-2.headless.default.svc, \
        SRV 33 443 my-pet.headless.default.svc, | 10-3-0-102.headless.default.svc 10.3.0.102, \
        | my-pet-2.headless.default.svc 10.3.0.101, | my-pet.headless.default.svc 10.3.0.100, \
        | my-pet.headless.default.svc fd00:42::64";
    for (name, wanted, want) in [
        // 2.2
        ("dns-version", Txt, "TXT"),
        // 2.3.1
        (kubernetes, A, "A 10.3.0.1"),
        (kubernetes, Aaaa, "NODATA"),
        ("both.default.svc", A, "A 10.3.0.7"),
        ("both.default.svc", Aaaa, "A fd00:42::7"),
        // 2.3.2
        (
            "_https._tcp.kubernetes.default.svc",
            Srv,
            "SRV 100 443 kubernetes.default.svc, | kubernetes.default.svc 10.3.0.1",
        ),
        (
            "_dns._udp.kube-dns.kube-system.svc",
            Srv,
            "SRV 100 53 kube-dns.kube-system.svc, | kube-dns.kube-system.svc 10.3.0.10",
        ),
        ("_dns._tcp.kube-dns.kube-system.svc", Srv, "NXDOMAIN"),
        ("_._tcp.both.default.svc", Srv, "NXDOMAIN"),
        // 2.4.1
        ("headless.default.svc", A, "A 10.3.0.100, A 10.3.0.101, A 10.3.0.102"),
        ("headless.default.svc", Aaaa, "A fd00:42::64"),
        ("empty.default.svc", A, "NXDOMAIN"),
        ("my-pet.headless.default.svc", A, "A 10.3.0.100"),
        ("my-pet.headless.default.svc", Aaaa, "A fd00:42::64"),
        ("10-3-0-102.headless.default.svc", A, "A 10.3.0.102"),
        ("my-pet-9.headless.default.svc", A, "NXDOMAIN"),
        // 2.4.2
        ("_https._tcp.headless.default.svc", Srv, all_pets),
        ("_https._udp.headless.default.svc", Srv, "NXDOMAIN"),
        // 2.5
        ("foo.default.svc", A, "CNAME www.example.com"),
        ("foo.default.svc", Other, "CNAME www.example.com"),
        // 2.6
        ("10-3-0-1.default.pod", A, "A 10.3.0.1"),
        ("fd00-42--7.default.pod", Aaaa, "A fd00:42::7"),
        ("fd00-42--7.default.pod", A, "NODATA"),
        ("10-3-0-1.nowhere.pod", A, "NXDOMAIN"),
        ("my-pet.default.pod", A, "NXDOMAIN"),
        // Names above records exist, those of namespaces as long as these do.
        ("", A, "NODATA"),
        ("svc", A, "NODATA"),
        ("pod", A, "NODATA"),
        ("dns", A, "NODATA"),
        ("bare.svc", A, "NODATA"),
        ("bare.pod", A, "NODATA"),
        ("nowhere.svc", A, "NXDOMAIN"),
        ("nowhere.pod", A, "NXDOMAIN"),
        ("_tcp.kubernetes.default.svc", A, "NODATA"),
        ("_udp.kubernetes.default.svc", A, "NXDOMAIN"),
        ("_tcp.headless.default.svc", A, "NODATA"),
        ("_sctp.headless.default.svc", A, "NXDOMAIN"),
        ("_https._tcp.kubernetes.default.svc", A, "NODATA"),
        ("ns.dns", A, "A 10.3.0.10"),
        ("dns-version", A, "NODATA"),
        ("gone.default.svc", A, "NXDOMAIN"),
        ("gone.bare.svc", A, "NXDOMAIN"),
        ("a.b.c.headless.default.svc", A, "NXDOMAIN"),
        ("kubernetes.default", A, "NXDOMAIN"),
        // All ports of a Service or an endpoint at once.
        ("web.default.svc", Srv, "SRV 50 80 web.default.svc, SRV 50 443 web.default.svc, | web.default.svc 10.3.0.8"),
        ("10-42-0-5.web.default.svc", A, "A 10.42.0.5"),
        (
            "10-42-0-5.web.default.svc",
            Srv,
            "SRV 100 8080 10-42-0-5.web.default.svc, | 10-42-0-5.web.default.svc 10.42.0.5",
        ),
        ("no-ports.default.svc", A, "A 10.42.0.9"),
        ("no-ports.default.svc", Srv, "NODATA"),
        ("number.default.svc", A, "NXDOMAIN"),
        ("x.foo.default.svc", A, "NXDOMAIN"),
    ] {
        assert_eq!(written(ask(name, wanted)), want, "{name} {wanted:?}");
    }
}

#[test]
fn addresses_lead_to_names() {
    let names = |text: &str| reverse(&Fixture::new(), ip(text)).join(" ");
    // 2.3.3 and 2.4.3 of the specification.
    assert_eq!(names("10.3.0.1"), "kubernetes.default.svc");
    assert_eq!(names("10.3.0.100"), "my-pet.headless.default.svc");
    assert_eq!(names("fd00:42::7"), "both.default.svc");
    assert_eq!(names("fd00:42::64"), "my-pet.headless.default.svc");
    assert_eq!(names("10.42.0.5"), "10-42-0-5.web.default.svc");
    assert_eq!(names("10.42.0.77"), "");
}
