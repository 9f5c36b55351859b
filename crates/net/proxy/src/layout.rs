//! The table's fixed part: base chains, the chains they jump to, and empty maps. The packet's path through it is drawn
//! in README.md.

use base_sys::nft::{
    Batch, Chain, ChainKind, Cmp, Data, DataKind, Element, Expr, Hook, NatKind, Port, Reject, Rule, Set, Type, Verdict,
};

use crate::frontend::{Affinity, Family, Otherwise};
use crate::kernel::FAMILY;
use crate::loopback;
use crate::network::{Links, Network, ProxyConfig};
use crate::pick::{Choice, Pick};
use crate::rules::{self, Mark};
use crate::shape::{ENDPOINT, KEY, Kind, Shape, octets};

/// `dstnat`, `filter` and `srcnat` in nft's words.
const PRIORITY_DESTINATION: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE: i32 = 100;
const TCP: u8 = 6;

const SERVICES: &str = "services";
const REJECT: &str = "reject-service";
/// Pick chains that exist from the start; more are made when a front end needs them.
const FIRST_PICKS: usize = 8;
/// The most clients remembered at a time; further ones are balanced freely.
const CLIENTS: u32 = 65_536;

/// Tells layouts apart; a table notes its own.
pub(crate) fn version(config: &ProxyConfig) -> String {
    let mut batch = Batch::new(FAMILY, &config.table);
    create(&mut batch, config);
    format!("layout {:016x}", batch.fingerprint())
}

/// Adds everything but the table and its services.
pub(crate) fn create(batch: &mut Batch, config: &ProxyConfig) {
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
    let networks = &config.networks;
    add_destination_rules(batch, networks);
    add_source_rules(batch, networks, &config.links);
    add_refusals(batch, networks);
    loopback::add_guard(batch);
    for (shape, pick) in first_picks() {
        add_pick(batch, shape, pick);
    }
}

/// What [`create`] makes ways for.
pub(crate) fn first_picks() -> impl Iterator<Item = (Shape, Pick)> {
    let none = [Otherwise::Refuse, Otherwise::Drop].map(Pick::none);
    let picks = move || none.into_iter().chain((1..=FIRST_PICKS).map(Pick::plain));
    Shape::ALL.into_iter().flat_map(move |shape| picks().map(move |pick| (shape, pick)))
}

fn add_maps(batch: &mut Batch) {
    let map = |name: String, key, data| Set { name, key, data: Some(data), dynamic: None, ranges: false };
    for shape in Shape::ALL {
        let endpoint = DataKind::Fields(shape.endpoint_types());
        batch.add_set(&map(shape.counts(), shape.key_types(), DataKind::Fields(vec![Type::Mark])));
        batch.add_set(&map(shape.slots(), shape.key_types_and(Type::Mark), endpoint));
        batch.add_set(&map(shape.picks(), vec![Type::Mark], DataKind::Verdict));
    }
    for family in Family::ALL {
        let key = vec![family.address_type(); 2];
        let name = family.hairpins().into();
        batch.add_set(&Set { name, key, data: None, dynamic: None, ranges: false });
    }
}

/// Adds the map in which the kernel remembers clients. It takes memory from the start: only where it is needed.
pub(crate) fn add_affinities(batch: &mut Batch, shape: Shape) {
    let key = shape.key_types_and(shape.family.address_type());
    let data = Some(DataKind::Fields(shape.endpoint_types()));
    batch.add_set(&Set { name: shape.affinities(), key, data, dynamic: Some(CLIENTS), ranges: false });
}

/// Adds the set of the clients that may come to guarded front ends; whoever meets none of those never looks.
pub(crate) fn add_sources(batch: &mut Batch, shape: Shape) {
    let key = shape.key_types_and(shape.family.address_type());
    batch.add_set(&Set { name: shape.sources(), key, data: None, dynamic: None, ranges: true });
}

fn add_destination_rules(batch: &mut Batch, networks: &[Network]) {
    let mut rule = Rules { batch, chain: "prerouting" };
    for network in networks {
        let arrives =
            || [rules::family_is(network.family()).to_vec(), rules::source_in(network.cluster_cidr, Cmp::Ne).into()];
        let to_service = |op| rules::destination_in(network.service_cidr, op).into();
        let [family, outside] = arrives();
        let outsider = rules::set_mark(Mark::Outsider).into();
        rule.add("from outside to a cluster address", [family, outside, to_service(Cmp::Eq), outsider]);
        let [family, outside] = arrives();
        let external = rules::set_mark(Mark::External).into();
        rule.add("from outside to an outside address", [family, outside, to_service(Cmp::Ne), external]);
    }
    rule.add("", [jump(SERVICES)]);
    rule.add("no service: forget where it came from", [rules::set_mark(Mark::None).into()]);

    rule.chain = "output";
    rule.add("", [jump(SERVICES)]);

    rule.chain = SERVICES;
    for network in networks {
        rule.add(
            "answered by this node itself, such as cluster DNS",
            [
                rules::family_is(network.family()).into(),
                rules::destination_in(network.service_cidr, Cmp::Eq).into(),
                rules::destination_is_local(Cmp::Eq).into(),
                verdict(Verdict::Return),
            ],
        );
        rule.add("service addresses", [Shape { kind: Kind::Address, family: network.family() }.dispatch()]);
        rule.add(
            "node ports",
            [
                rules::family_is(network.family()).into(),
                loopback::excluded(network.family()),
                rules::destination_is_local(Cmp::Eq).into(),
                Shape { kind: Kind::NodePort, family: network.family() }.dispatch(),
            ],
        );
        // Before routing, which knows no way for forwarded packets of IPv6 and would say so.
        rule.add("no such service or port", [to_service(network), verdict(Verdict::Goto(REJECT.into()))]);
    }
}

fn add_source_rules(batch: &mut Batch, networks: &[Network], links: &Links) {
    let mut rule = Rules { batch, chain: "postrouting" };
    for network in networks {
        let set = network.family().hairpins().into();
        rule.add(
            "a pod that reaches itself through a service",
            [
                rules::family_is(network.family()).into(),
                rules::load_both_addresses(network.family()).into(),
                vec![
                    Expr::Contains { set, key: KEY, negate: false },
                    Expr::Immediate { to: KEY, value: octets(network.node_ip) },
                    Expr::Nat {
                        kind: NatKind::Source,
                        family: network.family().proto(),
                        address: KEY,
                        port: Port::Kept,
                    },
                ],
            ],
        );
    }
    if let Links::Ours { tunnel, .. } = links {
        for (network, address) in
            networks.iter().filter_map(|network| Some((network, tunnel.address(network.family())?)))
        {
            // Not a masquerade: the flows of one end when another way to the same node is found.
            rule.add(
                "to another node's pods through the tunnel: answers must come back through it",
                [
                    rules::family_is(network.family()).into(),
                    rules::source_in(network.cluster_cidr, Cmp::Ne).into(),
                    rules::leaves_by(&tunnel.link).into(),
                    rules::set_mark(Mark::None).into(),
                    vec![
                        Expr::Immediate { to: KEY, value: octets(address) },
                        Expr::Nat {
                            kind: NatKind::Source,
                            family: network.family().proto(),
                            address: KEY,
                            port: Port::Random,
                        },
                    ],
                ],
            );
        }
    }
    const ELSEWHERE: &str = "from outside to an endpoint elsewhere: answers must come back here";
    match links {
        Links::Ours { prefix, .. } => rule.add(
            ELSEWHERE,
            [
                rules::from_outside().into(),
                rules::leaves_other_than(prefix).into(),
                rules::set_mark(Mark::None).into(),
                vec![Expr::Masquerade],
            ],
        ),
        Links::Foreign => {
            for network in networks {
                let set = network.family().hairpins().into();
                rule.add(
                    ELSEWHERE,
                    [
                        rules::family_is(network.family()).into(),
                        rules::from_outside().into(),
                        // The set has this node's endpoints, each with itself.
                        rules::load_destination_twice(network.family()).into(),
                        vec![Expr::Contains { set, key: KEY, negate: true }],
                        rules::set_mark(Mark::None).into(),
                        vec![Expr::Masquerade],
                    ],
                );
            }
        }
    }
    rule.add("", [rules::set_mark(Mark::None).into()]);
    for network in networks {
        loopback::add_source_rules(&mut rule, network);
        let Links::Ours { prefix, .. } = links else { continue };
        rule.add(
            "pods to the outside",
            [
                rules::family_is(network.family()).into(),
                rules::source_in(network.cluster_cidr, Cmp::Eq).into(),
                rules::destination_in(network.cluster_cidr, Cmp::Ne).into(),
                rules::leaves_other_than(prefix).into(),
                vec![Expr::Masquerade],
            ],
        );
    }
}

fn to_service(network: &Network) -> Vec<Expr> {
    let destination = rules::destination_in(network.service_cidr, Cmp::Eq);
    [rules::family_is(network.family()).to_vec(), destination.into()].concat()
}

/// A service address is translated or refused, never forwarded, also where a packet passes no translation.
fn add_refusals(batch: &mut Batch, networks: &[Network]) {
    let goto = || verdict(Verdict::Goto(REJECT.into()));
    let mut rule = Rules { batch, chain: "filter-forward" };
    for network in networks {
        rule.chain = "filter-forward";
        rule.add("no such service or port", [to_service(network), goto()]);
        rule.chain = "filter-output";
        let elsewhere = rules::destination_is_local(Cmp::Ne).into();
        rule.add("no such service or port", [to_service(network), elsewhere, goto()]);
    }
    rule.chain = REJECT;
    rule.add("", [rules::protocol_is(TCP).into(), vec![Expr::Reject(Reject::TcpReset)]]);
    rule.add("", [vec![Expr::Reject(Reject::PortUnreachable)]]);
}

/// Adds the chain that picks an endpoint, and the way to it. The chain of the simpler pick, and the shape's map of
/// clients or set of sources, must be there.
pub(crate) fn add_pick(batch: &mut Batch, shape: Shape, pick: Pick) {
    let chain = match (pick.choice(), pick.is_guarded()) {
        // One for all of them.
        (Choice::None(Otherwise::Refuse), false) => REJECT.into(),
        (choice, guarded) => {
            let chain = shape.pick_chain(pick);
            batch.add_chain(&Chain { name: chain.clone(), base: None });
            let mut rule = Rules { batch, chain: &chain };
            match (choice, guarded) {
                (_, true) => add_guard(&mut rule, shape, pick),
                (Choice::None(_), _) => rule.add("another node may answer", [verdict(Verdict::Drop)]),
                (Choice::Among { count, affinity: None }, _) => add_plain_rules(&mut rule, shape, count),
                (Choice::Among { count, affinity: Some(affinity) }, _) => {
                    add_sticky_rules(&mut rule, shape, pick, count, affinity);
                }
            }
            chain
        }
    };
    let go = Data::Verdict(Verdict::Goto(chain));
    batch.add_elements(&shape.picks(), [Element::new(pick.code().to_ne_bytes().to_vec(), Some(go))]);
}

/// Where the chain of a plainer pick is.
fn chain_of(shape: Shape, pick: Pick) -> String {
    match pick.choice() {
        Choice::None(Otherwise::Refuse) if !pick.is_guarded() => REJECT.into(),
        _ => shape.pick_chain(pick),
    }
}

/// Clients outside the front end's blocks go no further.
fn add_guard(rule: &mut Rules<'_>, shape: Shape, pick: Pick) {
    let stranger = vec![Expr::Contains { set: shape.sources(), key: KEY, negate: true }];
    rule.add("not for this client", [shape.load_key(), shape.load_client(), stranger, verdict(Verdict::Drop)]);
    let next = pick.simpler().expect("a guarded pick has one without");
    rule.add("", [verdict(Verdict::Goto(chain_of(shape, next)))]);
}

/// One of `count` at random. A slot can be missing only while the endpoints change under the packet, which then read a
/// count that is no more; the first slot outlives the others. Without that one the client's retransmission decides.
fn add_plain_rules(rule: &mut Rules<'_>, shape: Shape, count: u32) {
    for (comment, count) in [("", count), ("the slots have changed", 1)] {
        rule.add(comment, [load_random_endpoint(shape, count), vec![translate(shape)]]);
    }
    rule.add("", [verdict(Verdict::Drop)]);
}

/// The client's endpoint of last time, else a random one, which is remembered. What cannot be remembered is still
/// balanced.
fn add_sticky_rules(rule: &mut Rules<'_>, shape: Shape, pick: Pick, count: u32, affinity: Affinity) {
    let remember = || {
        let (map, timeout) = (shape.affinities(), affinity.timeout());
        let mut exprs = shape.wash_endpoint();
        exprs.push(Expr::Update { map, key: KEY, data: ENDPOINT, timeout });
        exprs.push(translate(shape));
        exprs
    };
    let recall = vec![Expr::Load { map: shape.affinities(), key: KEY, to: ENDPOINT }];
    rule.add("a client that came before", [shape.load_key(), shape.load_client(), recall, remember()]);
    rule.add("a new client", [load_random_endpoint(shape, count), shape.load_client(), remember()]);
    let plain = pick.simpler().expect("a sticky pick has one without");
    rule.add("too many clients", [verdict(Verdict::Goto(chain_of(shape, plain)))]);
}

fn load_random_endpoint(shape: Shape, count: u32) -> Vec<Expr> {
    let mut exprs = shape.load_key();
    exprs.push(Expr::Random { modulus: count, to: shape.slot_register() });
    exprs.push(Expr::Load { map: shape.slots(), key: KEY, to: ENDPOINT });
    exprs
}

fn translate(shape: Shape) -> Expr {
    let (family, port) = (shape.family.proto(), Port::Given(shape.endpoint_port()));
    Expr::Nat { kind: NatKind::Destination, family, address: ENDPOINT, port }
}

pub(crate) struct Rules<'a> {
    pub(crate) batch: &'a mut Batch,
    pub(crate) chain: &'a str,
}

impl Rules<'_> {
    pub(crate) fn add<const N: usize>(&mut self, comment: &'static str, parts: [Vec<Expr>; N]) {
        self.batch.add_rule(&Rule { chain: self.chain.into(), exprs: parts.concat(), comment: comment.into() });
    }
}

pub(crate) fn verdict(verdict: Verdict) -> Vec<Expr> {
    vec![Expr::Verdict(verdict)]
}

fn jump(chain: &str) -> Vec<Expr> {
    verdict(Verdict::Jump(chain.into()))
}
