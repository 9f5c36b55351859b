//! The table's fixed part: one chain in the forward hook, two for each direction and family, empty sets. README.md draws
//! the packet's path.

use base_sys::nft::{
    Batch, Chain, ChainKind, Cmp, CtKey, DataKind, Direction as Tuple, Expr, Hook, MetaKey, NfProto, PayloadBase, Reg,
    Rule, Set, TupleField, Type, Verdict,
};

use crate::view::Direction;

/// After the service data plane's own refusals, which are at `filter`.
const PRIORITY: i32 = 10;
const FORWARD: &str = "forward";
const UNTRACKED: &str = "untracked";

/// Connection tracking's bits for packets of no flow, and for the first of one.
const INVALID: u32 = 1;
const NEW: u32 = 1 << 3;
const NOT_TRACKED: u32 = 1 << 6;
const TCP: u8 = 6;
const TCP_FLAGS: u32 = 13;
const SYN: u8 = 2;

const SAVED_MARK: Reg = Reg::new(8);
const SCRATCH: Reg = Reg::new(15);
const KEY: Reg = Reg::new(0);
/// Behind the class, and behind nothing.
const PEER: Reg = Reg::new(1);

pub const DIRECTIONS: [Direction; 2] = [Direction::Egress, Direction::Ingress];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn name(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }

    fn protocol(self) -> NfProto {
        match self {
            Self::V4 => NfProto::Ipv4,
            Self::V6 => NfProto::Ipv6,
        }
    }

    fn address(self) -> Type {
        match self {
            Self::V4 => Type::Ipv4Address,
            Self::V6 => Type::Ipv6Address,
        }
    }

    /// Registers that an address takes.
    fn registers(self) -> u32 {
        match self {
            Self::V4 => 1,
            Self::V6 => 4,
        }
    }

    /// Offsets of source and destination in the packet, and the length of each.
    fn header(self) -> (u32, u32, u32) {
        match self {
            Self::V4 => (12, 16, 4),
            Self::V6 => (8, 24, 16),
        }
    }
}

/// One of the sets of a direction and family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Address of a pod of this node → its class.
    Classes,
    /// Class and peer: everything between them.
    Peers,
    /// Class, peer, protocol and port.
    Ports,
    /// The same, each from first to last.
    Ranges,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Classes, Self::Peers, Self::Ports, Self::Ranges];

    pub fn set(self, direction: Direction, family: Family) -> String {
        let kind = match self {
            Self::Classes => "classes",
            Self::Peers => "peers",
            Self::Ports => "ports",
            Self::Ranges => "ranges",
        };
        format!("{}-{kind}-{}", name(direction), family.name())
    }
}

/// A pod's own address twice: what it sends to itself through a Service.
pub fn selves(family: Family) -> String {
    format!("selves-{}", family.name())
}

fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// Adds the table with everything but policies.
pub fn create(batch: &mut Batch) {
    batch.add_table();
    for family in Family::ALL {
        batch.add_set(&set(selves(family), vec![family.address(), family.address()], None, false));
        for direction in DIRECTIONS {
            for kind in Kind::ALL {
                let whole = || vec![Type::Mark, family.address(), Type::Protocol, Type::Port];
                let (key, data) = match kind {
                    Kind::Classes => (vec![family.address()], Some(DataKind::Fields(vec![Type::Mark]))),
                    Kind::Peers => (vec![Type::Mark, family.address()], None),
                    Kind::Ports | Kind::Ranges => (whole(), None),
                };
                batch.add_set(&set(kind.set(direction, family), key, data, kind == Kind::Ranges));
            }
        }
    }
    batch.add_chain(&Chain { name: FORWARD.into(), base: Some((ChainKind::Filter, Hook::Forward, PRIORITY)) });
    batch.add_chain(&Chain { name: UNTRACKED.into(), base: None });
    for family in Family::ALL {
        for direction in DIRECTIONS {
            batch.add_chain(&Chain { name: chain(direction, family), base: None });
            add_checks(batch, direction, family);
        }
    }
    add_forward(batch);
}

fn set(name: String, key: Vec<Type>, data: Option<DataKind>, ranges: bool) -> Set {
    Set { name, key, data, dynamic: None, ranges }
}

fn chain(direction: Direction, family: Family) -> String {
    format!("{}-{}", name(direction), family.name())
}

fn add(batch: &mut Batch, chain: &str, comment: &'static str, parts: &[Vec<Expr>]) {
    batch.add_rule(&Rule { chain: chain.into(), exprs: parts.concat(), comment: comment.into() });
}

fn add_forward(batch: &mut Batch) {
    let jump = |chain: String| vec![Expr::Verdict(Verdict::Jump(chain))];
    add(batch, FORWARD, "packets of no flow", &[state(INVALID | NOT_TRACKED), jump(UNTRACKED.into())]);
    let without_syn = vec![
        Expr::Meta { key: MetaKey::L4Proto, to: SCRATCH },
        Expr::Cmp { from: SCRATCH, op: Cmp::Eq, value: vec![TCP] },
        Expr::Payload { base: PayloadBase::Transport, offset: TCP_FLAGS, length: 1, to: SCRATCH },
        masked(vec![SYN]),
        Expr::Cmp { from: SCRATCH, op: Cmp::Eq, value: vec![0] },
    ];
    add(batch, FORWARD, "who began it is not known", &[state(NEW), without_syn, jump(UNTRACKED.into())]);
    for family in Family::ALL {
        let (source, destination, length) = family.header();
        for direction in DIRECTIONS {
            for offset in [source, destination] {
                let address = vec![
                    Expr::Payload { base: PayloadBase::Network, offset, length, to: KEY },
                    Expr::Load { map: Kind::Classes.set(direction, family), key: KEY, to: KEY },
                    Expr::Verdict(Verdict::Drop),
                ];
                add(batch, UNTRACKED, "of an isolated pod", &[is(family), address]);
            }
            let class = vec![
                own(direction, family, KEY),
                Expr::Load { map: Kind::Classes.set(direction, family), key: KEY, to: KEY },
            ];
            add(batch, FORWARD, "an isolated pod", &[is(family), class, jump(chain(direction, family))]);
        }
    }
}

/// Who began the flow is bound by what may leave it, who answers by what may reach it: for every packet, in both
/// directions, so that a change of policy ends flows at once.
fn add_checks(batch: &mut Batch, direction: Direction, family: Family) {
    let chain = chain(direction, family);
    let allow = || vec![Expr::Verdict(Verdict::Return)];
    let within = |set: String| vec![Expr::Contains { set, key: KEY, negate: false }];
    let both = vec![tuple(family, Tuple::Original, KEY), tuple(family, Tuple::Reply, Reg::new(family.registers()))];
    add(batch, &chain, "a pod and itself", &[both, within(selves(family)), allow()]);
    let class = || class_into_key(direction, family);
    let peer = || vec![other(direction, family, PEER)];
    let behind = 1 + family.registers();
    let port = || {
        vec![
            Expr::Meta { key: MetaKey::L4Proto, to: Reg::new(behind) },
            Expr::CtTuple { field: TupleField::SourcePort, direction: Tuple::Reply, to: Reg::new(behind + 1) },
        ]
    };
    let set = |kind: Kind| within(kind.set(direction, family));
    add(batch, &chain, "all of a peer", &[class(), peer(), set(Kind::Peers), allow()]);
    add(batch, &chain, "a port of a peer", &[class(), peer(), port(), set(Kind::Ports), allow()]);
    add(batch, &chain, "a range", &[class(), peer(), port(), set(Kind::Ranges), allow()]);
    add(batch, &chain, "no policy allows it", &[vec![Expr::Verdict(Verdict::Drop)]]);
}

/// Whether the packet's flow is in one of these states.
fn state(bits: u32) -> Vec<Expr> {
    vec![
        Expr::Ct { key: CtKey::State, to: SCRATCH },
        masked(bits.to_ne_bytes().to_vec()),
        Expr::Cmp { from: SCRATCH, op: Cmp::Ne, value: vec![0; 4] },
    ]
}

fn masked(mask: Vec<u8>) -> Expr {
    let xor = vec![0; mask.len()];
    Expr::Bitwise { from: SCRATCH, to: SCRATCH, mask, xor }
}

fn is(family: Family) -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::NfProto, to: SCRATCH },
        Expr::Cmp { from: SCRATCH, op: Cmp::Eq, value: vec![family.protocol() as u8] },
    ]
}

/// The class of the flow's pod. It passes through the packet's mark, which is put back: `nft list` cannot print a lookup
/// whose key is another lookup's result.
fn class_into_key(direction: Direction, family: Family) -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::Mark, to: SAVED_MARK },
        own(direction, family, KEY),
        Expr::Load { map: Kind::Classes.set(direction, family), key: KEY, to: KEY },
        Expr::SetMeta { key: MetaKey::Mark, from: KEY },
        Expr::Meta { key: MetaKey::Mark, to: KEY },
        Expr::SetMeta { key: MetaKey::Mark, from: SAVED_MARK },
    ]
}

/// The flow's end that the direction is about, and the other: addresses as they are behind Services.
fn own(direction: Direction, family: Family, to: Reg) -> Expr {
    match direction {
        Direction::Egress => tuple(family, Tuple::Original, to),
        Direction::Ingress => tuple(family, Tuple::Reply, to),
    }
}

fn other(direction: Direction, family: Family, to: Reg) -> Expr {
    match direction {
        Direction::Egress => tuple(family, Tuple::Reply, to),
        Direction::Ingress => tuple(family, Tuple::Original, to),
    }
}

fn tuple(family: Family, direction: Tuple, to: Reg) -> Expr {
    let field = match family {
        Family::V4 => TupleField::SourceIpv4,
        Family::V6 => TupleField::SourceIpv6,
    };
    Expr::CtTuple { field, direction, to }
}
