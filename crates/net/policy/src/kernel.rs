//! Writes plans into a table of its own and remembers what is there. Blocking, for microseconds to milliseconds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use base_sys::nft::{self, Batch, Data, Element, Nft, concat};

use crate::layout::{self, DIRECTIONS, Family, Kind, selves};
use crate::plan::{Class, Plan};
use crate::ranges::Range;
use crate::view::Direction;

const FAMILY: nft::Family = nft::Family::Inet;

/// The table in the kernel.
#[derive(Debug)]
pub struct Kernel {
    nft: Nft,
    table: String,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Of an earlier run, or of an attempt that failed.
    Unknown,
    /// No pod is isolated: no table, and no packet is looked at.
    Absent,
    Present(Contents),
}

#[derive(Debug, Default)]
struct Contents {
    numbers: Numbers,
    sets: Sets,
}

/// Each set's elements by key.
type Sets = BTreeMap<String, BTreeMap<Vec<u8>, Value>>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Member,
    /// A class's number.
    Class(u32),
    /// Where the range ends.
    Last(Vec<u8>),
}

/// Classes as the kernel's sets name them.
#[derive(Clone, Debug, Default)]
struct Numbers(HashMap<(bool, Class), u32>);

impl Kernel {
    /// Opens a socket in the calling thread's network namespace; changes nothing.
    pub fn open(table: &str) -> Result<Self, nft::Error> {
        Ok(Self { nft: Nft::open()?, table: table.into(), state: State::Unknown })
    }

    /// Brings the table up to the plan in one transaction: no packet sees it half done. After an error the next call
    /// writes everything anew.
    pub fn apply(&mut self, plan: &Plan) -> Result<(), nft::Error> {
        let before = std::mem::replace(&mut self.state, State::Unknown);
        if plan.is_empty() {
            if !matches!(before, State::Absent) {
                self.nft.delete_table(FAMILY, &self.table)?;
            }
            self.state = State::Absent;
            return Ok(());
        }
        let mut batch = Batch::new(FAMILY, &self.table);
        let Contents { mut numbers, sets } = match before {
            State::Present(contents) => contents,
            State::Unknown | State::Absent => {
                // Creating first makes the deletion valid also when there is no table.
                batch.add_table();
                batch.delete_table();
                layout::create(&mut batch);
                Contents::default()
            }
        };
        numbers.follow(plan);
        let wanted = sets_of(plan, &numbers);
        encode(&mut batch, &sets, &wanted);
        self.nft.commit(batch)?;
        self.state = State::Present(Contents { numbers, sets: wanted });
        Ok(())
    }

    /// How many elements the table has.
    pub fn elements(&self) -> usize {
        match &self.state {
            State::Present(contents) => contents.sets.values().map(BTreeMap::len).sum(),
            State::Unknown | State::Absent => 0,
        }
    }
}

/// Deletes the table; none is fine.
pub fn remove(table: &str) -> Result<(), nft::Error> {
    Nft::open()?.delete_table(FAMILY, table)
}

impl Numbers {
    /// Keeps the numbers of classes that stay; new classes get free ones.
    fn follow(&mut self, plan: &Plan) {
        let key = |direction: Direction, class: &Class| (direction == Direction::Ingress, class.clone());
        let wanted: HashSet<(bool, Class)> = DIRECTIONS
            .into_iter()
            .flat_map(|direction| plan.side(direction).classes.keys().map(move |class| key(direction, class)))
            .collect();
        self.0.retain(|class, _| wanted.contains(class));
        let taken: HashSet<u32> = self.0.values().copied().collect();
        let mut free = (1..).filter(|number| !taken.contains(number));
        for class in wanted {
            self.0.entry(class).or_insert_with(|| free.next().expect("fewer classes than numbers"));
        }
    }

    fn of(&self, direction: Direction, class: &Class) -> u32 {
        self.0.get(&(direction == Direction::Ingress, class.clone())).copied().unwrap_or_default()
    }
}

fn sets_of(plan: &Plan, numbers: &Numbers) -> Sets {
    let mut sets = Sets::new();
    let mut put = |set: String, key: Vec<u8>, value: Value| {
        sets.entry(set).or_default().insert(key, value);
    };
    for direction in DIRECTIONS {
        let side = plan.side(direction);
        for (ip, class) in &side.members {
            let number = numbers.of(direction, class);
            put(Kind::Classes.set(direction, family(*ip)), octets(*ip), Value::Class(number));
            put(selves(family(*ip)), concat(&[&octets(*ip), &octets(*ip)]), Value::Member);
        }
        for (class, allowed) in &side.classes {
            let number = numbers.of(direction, class).to_ne_bytes();
            for ip in &allowed.peers {
                put(Kind::Peers.set(direction, family(*ip)), concat(&[&number, &octets(*ip)]), Value::Member);
            }
            for (ip, protocol, port) in &allowed.ports {
                let key = concat(&[&number, &octets(*ip), &[*protocol as u8], &port.to_be_bytes()]);
                put(Kind::Ports.set(direction, family(*ip)), key, Value::Member);
            }
            for Range { addresses, protocols, ports } in &allowed.ranges {
                let key = |ip: IpAddr, protocol: u8, port: u16| {
                    concat(&[&number, &octets(ip), &[protocol], &port.to_be_bytes()])
                };
                let last = Value::Last(key(addresses.1, protocols.1, ports.1));
                put(Kind::Ranges.set(direction, family(addresses.0)), key(addresses.0, protocols.0, ports.0), last);
            }
        }
    }
    sets
}

/// What goes first: a range may take the place of another that overlaps it.
fn encode(batch: &mut Batch, before: &Sets, wanted: &Sets) {
    let none = BTreeMap::new();
    for (set, old) in before {
        let new = wanted.get(set).unwrap_or(&none);
        let gone = old.iter().filter(|(key, value)| new.get(*key) != Some(*value));
        batch.delete_elements(set, gone.map(|(key, value)| element(key, value)));
    }
    for (set, new) in wanted {
        let old = before.get(set).unwrap_or(&none);
        let added = new.iter().filter(|(key, value)| old.get(*key) != Some(*value));
        batch.add_elements(set, added.map(|(key, value)| element(key, value)));
    }
}

fn element(key: &[u8], value: &Value) -> Element {
    match value {
        Value::Member => Element::new(key.to_vec(), None),
        Value::Class(number) => Element::new(key.to_vec(), Some(Data::Fields(number.to_ne_bytes().to_vec()))),
        Value::Last(last) => Element::range(key.to_vec(), last.clone()),
    }
}

fn family(ip: IpAddr) -> Family {
    if ip.is_ipv4() { Family::V4 } else { Family::V6 }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
