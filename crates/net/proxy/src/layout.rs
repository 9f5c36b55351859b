//! The table's fixed part: base chains, the chains they jump to, and empty maps. The packet's path through it is drawn
//! in README.md.

use base_sys::nft::{
    Batch, Chain, ChainKind, Cmp, Data, DataKind, Element, Expr, Hook, NatKind, NfProto, Reg, Reject, Rule, Set, Type,
    Verdict,
};
use base_sys::route::Ipv4Cidr;

use crate::frontend::Affinity;
use crate::kernel::ProxyConfig;
use crate::pick::Pick;
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
pub(crate) const FIRST_PICKS: usize = 8;
/// The most clients remembered at a time; further ones are balanced freely.
const CLIENTS: u32 = 65_536;

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
        let none = Pick::new(0, None).code();
        let element = Element { key: none.to_ne_bytes().to_vec(), data: Some(refuse), expiry: None, last: None };
        batch.add_elements(shape.picks(), [element]);
        for count in 1..=FIRST_PICKS {
            add_pick(batch, shape, Pick::new(count, None));
        }
    }
}

fn add_maps(batch: &mut Batch) {
    for shape in Shape::ALL {
        let slot_key = key_with(shape, Type::Mark);
        let count = DataKind::Fields(vec![Type::Mark]);
        for (name, key, data) in [
            (shape.counts(), key(shape), count),
            (shape.slots(), slot_key, endpoint()),
            (shape.picks(), vec![Type::Mark], DataKind::Verdict),
        ] {
            batch.add_set(&Set { name: name.into(), key, data: Some(data), dynamic: None, ranges: false });
        }
    }
    let key = vec![Type::Ipv4Address, Type::Ipv4Address];
    batch.add_set(&Set { name: HAIRPINS.into(), key, data: None, dynamic: None, ranges: false });
}

fn key(shape: Shape) -> Vec<Type> {
    match shape {
        Shape::Address => vec![Type::Mark, Type::Ipv4Address, Type::Protocol, Type::Port],
        Shape::NodePort => vec![Type::Mark, Type::Protocol, Type::Port],
    }
}

fn key_with(shape: Shape, last: Type) -> Vec<Type> {
    key(shape).into_iter().chain([last]).collect()
}

fn endpoint() -> DataKind {
    DataKind::Fields(vec![Type::Ipv4Address, Type::Port])
}

/// Adds the map in which the kernel remembers clients. It takes memory from the start: only where it is needed.
pub(crate) fn add_affinities(batch: &mut Batch, shape: Shape) {
    let key = key_with(shape, Type::Ipv4Address);
    batch.add_set(&Set {
        name: shape.affinities().into(),
        key,
        data: Some(endpoint()),
        dynamic: Some(CLIENTS),
        ranges: false,
    });
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
                Expr::Nat { kind: NatKind::Source, family: NfProto::Ipv4, address: KEY, port: None },
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

/// Adds the chain that picks an endpoint, and the way to it. A chain with an affinity needs its shape's map of clients
/// and the plain chain of its count.
pub(crate) fn add_pick(batch: &mut Batch, shape: Shape, pick: Pick) {
    let chain = shape.pick_chain(pick);
    batch.add_chain(&Chain { name: chain.clone(), base: None });
    match pick.affinity() {
        None => add_plain_rules(batch, shape, &chain, pick.count()),
        Some(affinity) => add_sticky_rules(batch, shape, &chain, pick.count(), affinity),
    }
    let go = Data::Verdict(Verdict::Goto(chain));
    let key = pick.code().to_ne_bytes().to_vec();
    batch.add_elements(shape.picks(), [Element { key, data: Some(go), expiry: None, last: None }]);
}

const ENDPOINT: Reg = Reg::new(5);
const ENDPOINT_PORT: Reg = Reg::new(6);
const COPY: Reg = Reg::new(9);
const COPY_PORT: Reg = Reg::new(10);

/// One of `count` at random. A slot can be missing only while the endpoints change under the packet, which then read a
/// count that is no more; the first slot outlives the others. Without that one the client's retransmission decides.
fn add_plain_rules(batch: &mut Batch, shape: Shape, chain: &str, count: u32) {
    let mut rule = Rules { batch, chain };
    for (comment, count) in [("", count), ("the slots have changed", 1)] {
        rule.add(comment, [load_random_endpoint(shape, count), vec![translate()]]);
    }
    rule.add("", [verdict(Verdict::Drop)]);
}

/// The client's endpoint of last time, else a random one, which is remembered. What cannot be remembered is still
/// balanced.
fn add_sticky_rules(batch: &mut Batch, shape: Shape, chain: &str, count: u32, affinity: Affinity) {
    let remember = || {
        let (map, timeout) = (shape.affinities().into(), affinity.timeout());
        let mut exprs = rules::copy_through_mark(&[(ENDPOINT, COPY), (ENDPOINT_PORT, COPY_PORT)]);
        exprs.push(Expr::Update { map, key: KEY, data: COPY, timeout });
        exprs.push(translate());
        exprs
    };
    let recall = vec![Expr::Load { map: shape.affinities().into(), key: KEY, to: ENDPOINT }];
    let mut rule = Rules { batch, chain };
    rule.add("a client that came before", [shape.load_key(), shape.load_client(), recall, remember()]);
    rule.add("a new client", [load_random_endpoint(shape, count), shape.load_client(), remember()]);
    let plain = shape.pick_chain(Pick::new(count as usize, None));
    rule.add("too many clients", [verdict(Verdict::Goto(plain))]);
}

fn load_random_endpoint(shape: Shape, count: u32) -> Vec<Expr> {
    let mut exprs = shape.load_key();
    exprs.push(Expr::Random { modulus: count, to: shape.slot_register() });
    exprs.push(Expr::Load { map: shape.slots().into(), key: KEY, to: ENDPOINT });
    exprs
}

fn translate() -> Expr {
    Expr::Nat { kind: NatKind::Destination, family: NfProto::Ipv4, address: ENDPOINT, port: Some(ENDPOINT_PORT) }
}

struct Rules<'a> {
    batch: &'a mut Batch,
    chain: &'a str,
}

impl Rules<'_> {
    fn add<const N: usize>(&mut self, comment: &'static str, parts: [Vec<Expr>; N]) {
        self.batch.add_rule(&Rule { chain: self.chain.into(), exprs: parts.concat(), comment: comment.into() });
    }
}

fn verdict(verdict: Verdict) -> Vec<Expr> {
    vec![Expr::Verdict(verdict)]
}

fn jump(chain: &str) -> Vec<Expr> {
    verdict(Verdict::Jump(chain.into()))
}
