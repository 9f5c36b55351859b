//! The table's fixed part: base chains, the chains they jump to, and empty maps. The packet's path through it is drawn
//! in README.md.

use base_sys::nft::{
    Batch, Chain, ChainKind, Cmp, Data, DataKind, Element, Expr, Hook, NatKind, Reg, Reject, Rule, Set, Type, Verdict,
};
use base_sys::route::Ipv4Cidr;

use crate::kernel::ProxyConfig;
use crate::rules::{self, KEY, LOOPBACK, Mark, Shape};

/// `dstnat`, `filter` and `srcnat` in nft's words.
const PRIORITY_DESTINATION: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE: i32 = 100;
const TCP: u8 = 6;

const SERVICES: &str = "services";
const REJECT: &str = "reject-service";
pub(crate) const HAIRPINS: &str = "hairpins";
/// Pick chains that exist from the start; more are made when a front end needs them.
pub(crate) const FIRST_PICKS: u32 = 8;

/// Adds the table with everything but services.
pub(crate) fn create(batch: &mut Batch, config: &ProxyConfig) {
    batch.add_table();
    add_maps(batch);
    for (name, kind, hook, priority) in [
        ("prerouting", ChainKind::Nat, Hook::Prerouting, PRIORITY_DESTINATION),
        ("output", ChainKind::Nat, Hook::Output, PRIORITY_DESTINATION),
        ("postrouting", ChainKind::Nat, Hook::Postrouting, PRIORITY_SOURCE),
        ("filter-forward", ChainKind::Filter, Hook::Forward, PRIORITY_FILTER),
        ("filter-output", ChainKind::Filter, Hook::Output, PRIORITY_FILTER),
    ] {
        batch.add_chain(&Chain { name: name.into(), base: Some((kind, hook, priority)) });
    }
    for name in [SERVICES, REJECT] {
        batch.add_chain(&Chain { name: name.into(), base: None });
    }
    add_destination_rules(batch, config);
    add_source_rules(batch, config);
    add_refusals(batch, config);
    for shape in Shape::ALL {
        let refuse = Data::Verdict(Verdict::Goto(REJECT.into()));
        batch.add_elements(shape.picks(), [Element { key: 0_u32.to_ne_bytes().to_vec(), data: Some(refuse) }]);
        for count in 1..=FIRST_PICKS {
            add_pick(batch, shape, count);
        }
    }
}

fn add_maps(batch: &mut Batch) {
    for shape in Shape::ALL {
        let key = match shape {
            Shape::Address => vec![Type::Mark, Type::Ipv4Address, Type::Protocol, Type::Port],
            Shape::NodePort => vec![Type::Mark, Type::Protocol, Type::Port],
        };
        let slot_key = key.iter().copied().chain([Type::Mark]).collect();
        let endpoint = DataKind::Fields(vec![Type::Ipv4Address, Type::Port]);
        let count = DataKind::Fields(vec![Type::Mark]);
        for (name, key, data) in [
            (shape.counts(), key, count),
            (shape.slots(), slot_key, endpoint),
            (shape.picks(), vec![Type::Mark], DataKind::Verdict),
        ] {
            batch.add_set(&Set { name: name.into(), key, data: Some(data), dynamic: None });
        }
    }
    let key = vec![Type::Ipv4Address, Type::Ipv4Address];
    batch.add_set(&Set { name: HAIRPINS.into(), key, data: None, dynamic: None });
}

fn add_destination_rules(batch: &mut Batch, config: &ProxyConfig) {
    let (cluster, service) = (config.cluster_cidr, config.service_cidr);
    let mut rule = Rules { batch, chain: "prerouting" };
    rule.add(
        "from outside to a cluster address",
        [
            rules::ipv4(),
            rules::source_in(cluster, Cmp::Ne).into(),
            rules::destination_in(service, Cmp::Eq).into(),
            rules::set_mark(Mark::Outsider).into(),
        ],
    );
    rule.add(
        "from outside to an outside address",
        [
            rules::ipv4(),
            rules::source_in(cluster, Cmp::Ne).into(),
            rules::destination_in(service, Cmp::Ne).into(),
            rules::set_mark(Mark::External).into(),
        ],
    );
    rule.add("", [jump(SERVICES)]);
    rule.add("no service: forget where it came from", [rules::set_mark(Mark::None).into()]);

    rule.chain = "output";
    rule.add("", [jump(SERVICES)]);

    rule.chain = SERVICES;
    rule.add(
        "answered by this node itself, such as cluster DNS",
        [
            rules::ipv4(),
            rules::destination_in(service, Cmp::Eq).into(),
            rules::destination_is_local(Cmp::Eq).into(),
            verdict(Verdict::Return),
        ],
    );
    rule.add("service addresses", [Shape::Address.dispatch()]);
    let loopback = Ipv4Cidr::new(LOOPBACK.0, LOOPBACK.1).expect("8 is a prefix");
    rule.add(
        "node ports",
        [
            rules::ipv4(),
            rules::destination_in(loopback, Cmp::Ne).into(),
            rules::destination_is_local(Cmp::Eq).into(),
            Shape::NodePort.dispatch(),
        ],
    );
}

fn add_source_rules(batch: &mut Batch, config: &ProxyConfig) {
    let prefix = &config.pod_interface_prefix;
    let mut rule = Rules { batch, chain: "postrouting" };
    rule.add(
        "a pod that reaches itself through a service",
        [
            rules::ipv4(),
            rules::load_both_addresses().into(),
            vec![
                Expr::Contains { set: HAIRPINS.into(), key: KEY, negate: false },
                Expr::Immediate { to: KEY, value: config.node_ip.octets().to_vec() },
                Expr::Nat { kind: NatKind::Source, address: KEY, port: None },
            ],
        ],
    );
    rule.add(
        "from outside to an endpoint elsewhere: answers must come back here",
        [
            rules::from_outside().into(),
            rules::leaves_other_than(prefix).into(),
            rules::set_mark(Mark::None).into(),
            vec![Expr::Masquerade],
        ],
    );
    rule.add("", [rules::set_mark(Mark::None).into()]);
    rule.add(
        "pods to the outside",
        [
            rules::ipv4(),
            rules::source_in(config.cluster_cidr, Cmp::Eq).into(),
            rules::destination_in(config.cluster_cidr, Cmp::Ne).into(),
            rules::leaves_other_than(prefix).into(),
            vec![Expr::Masquerade],
        ],
    );
}

/// A service address is translated or refused, never forwarded.
fn add_refusals(batch: &mut Batch, config: &ProxyConfig) {
    let to_service = || [rules::ipv4(), rules::destination_in(config.service_cidr, Cmp::Eq).into()].concat();
    let goto = || verdict(Verdict::Goto(REJECT.into()));
    let mut rule = Rules { batch, chain: "filter-forward" };
    rule.add("no such service or port", [to_service(), goto()]);
    rule.chain = "filter-output";
    rule.add("no such service or port", [to_service(), rules::destination_is_local(Cmp::Ne).into(), goto()]);
    rule.chain = REJECT;
    rule.add("", [rules::protocol_is(TCP).into(), vec![Expr::Reject(Reject::TcpReset)]]);
    rule.add("", [vec![Expr::Reject(Reject::PortUnreachable)]]);
}

/// Adds the chain that picks one of `count` endpoints at random, and the way to it. A slot can be missing only while
/// the endpoints change under the packet: one more try, then the client's retransmission decides.
pub(crate) fn add_pick(batch: &mut Batch, shape: Shape, count: u32) {
    let chain = shape.pick_chain(count);
    batch.add_chain(&Chain { name: chain.clone(), base: None });
    let mut rule = Rules { batch, chain: &chain };
    for comment in ["", "once more"] {
        rule.add(
            comment,
            [
                shape.load_key(),
                vec![
                    Expr::Random { modulus: count, to: shape.slot_register() },
                    Expr::Load { map: shape.slots().into(), key: KEY, to: Reg::new(5) },
                    Expr::Nat { kind: NatKind::Destination, address: Reg::new(5), port: Some(Reg::new(6)) },
                ],
            ],
        );
    }
    rule.add("", [verdict(Verdict::Drop)]);
    let go = Data::Verdict(Verdict::Goto(chain.clone()));
    batch.add_elements(shape.picks(), [Element { key: count.to_ne_bytes().to_vec(), data: Some(go) }]);
}

struct Rules<'a> {
    batch: &'a mut Batch,
    chain: &'a str,
}

impl Rules<'_> {
    fn add<const N: usize>(&mut self, comment: &'static str, parts: [Vec<Expr>; N]) {
        self.batch.add_rule(&Rule { chain: self.chain.into(), exprs: parts.concat(), comment });
    }
}

fn verdict(verdict: Verdict) -> Vec<Expr> {
    vec![Expr::Verdict(verdict)]
}

fn jump(chain: &str) -> Vec<Expr> {
    verdict(Verdict::Jump(chain.into()))
}
