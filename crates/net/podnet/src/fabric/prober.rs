//! Echoes to the other nodes: are they there, does the network carry pods' packets to them, and how large may those be.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use base_sys::icmp::{self, Version};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::liveness::{FAST, Liveness, TICK};
use super::peers::Peer;
use super::plan::{self, probe_address};
use crate::network::Network;

/// How many nodes that seem fine are asked in one round.
const ROUND: usize = 64;
/// Sizes that networks have, below the link's own.
const SIZES: [u32; 7] = [8950, 1500, 1492, 1450, 1400, 1350, 1280];
/// The way is probed at every round at first and when a probe was not answered, else every ten seconds.
const EAGER: u32 = 8;
const SELDOM: u32 = 40;
/// A direct way that answers no probe for so many in a row is given up.
const MISSES: u32 = 3;

/// What probes have found, by the nodes' addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Probed {
    /// Pods' packets of the address's family come through as they are.
    pub(super) direct: BTreeSet<IpAddr>,
    /// Less comes through than the link takes: bytes of the largest packet.
    pub(super) narrow: BTreeMap<IpAddr, u32>,
}

/// What an echo is to find out.
#[derive(Clone, Copy, Debug)]
enum Question {
    There,
    /// By the node's address of one family.
    Direct(IpAddr),
    /// A packet of so many bytes.
    Size(u32),
}

#[derive(Debug)]
struct Watched {
    peer: Arc<Peer>,
    liveness: Liveness,
    /// Rounds since this node is probed.
    rounds: u32,
    /// Per family, by the node's address.
    ways: BTreeMap<IpAddr, Way>,
    size: Size,
}

/// Whether the network carries pods' packets of one family.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// What is asked.
    probe: IpAddr,
    direct: bool,
    unanswered: u32,
}

/// The largest packet that comes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// Which of the sizes is tried, and how often it was.
    Unknown {
        tried: usize,
        times: u32,
    },
    Known(u32),
}

pub(super) struct Prober {
    networks: Vec<Network>,
    /// One per family.
    sockets: BTreeMap<Version, UdpSocket>,
    /// Tells our echoes from other programs'.
    id: u16,
    sequence: u16,
    asked: HashMap<u16, (IpAddr, Question)>,
    /// The link's own size, then the smaller ones.
    sizes: Vec<u32>,
    /// By the addresses that the tunnel goes to.
    watched: BTreeMap<IpAddr, Watched>,
    /// Where the next round of those that seem fine begins.
    cursor: usize,
    peers: watch::Receiver<Vec<Arc<Peer>>>,
    suspects: watch::Sender<BTreeSet<String>>,
    found: watch::Sender<Probed>,
}

impl Prober {
    pub(super) fn open(
        networks: &[Network],
        mtu: u32,
        peers: watch::Receiver<Vec<Arc<Peer>>>,
        suspects: watch::Sender<BTreeSet<String>>,
        found: watch::Sender<Probed>,
    ) -> io::Result<Self> {
        let mut sockets = BTreeMap::new();
        for version in networks.iter().map(|network| Version::of(network.node_ip)) {
            sockets.insert(version, UdpSocket::from_std(icmp::open(version)?)?);
        }
        let mut sizes = vec![mtu];
        sizes.extend(SIZES.into_iter().filter(|size| *size < mtu));
        Ok(Self {
            networks: networks.to_vec(),
            sockets,
            // Another Sampan of this network namespace is another process.
            id: std::process::id() as u16,
            sequence: 0,
            asked: HashMap::new(),
            sizes,
            watched: BTreeMap::new(),
            cursor: 0,
            peers,
            suspects,
            found,
        })
    }

    pub(super) async fn run(mut self) {
        let mut buffer = vec![0; 64 * 1024];
        let mut last_round: Option<Instant> = None;
        loop {
            if self.watched.is_empty() {
                // A node alone asks nobody and is woken by nothing.
                if self.peers.changed().await.is_err() {
                    return;
                }
            }
            self.follow();
            self.listen(&mut buffer);
            let now = Instant::now();
            for watched in self.watched.values_mut() {
                watched.liveness = watched.liveness.judge(now);
            }
            let round = last_round.is_none_or(|last| now.saturating_duration_since(last) >= TICK);
            if round {
                last_round = Some(now);
            }
            self.ask(now, round);
            self.tell();
            let doubt = self.watched.values().any(|watched| watched.liveness.is_doubted());
            let wait = tokio::time::sleep(if doubt { FAST } else { TICK });
            tokio::select! {
                () = wait => {}
                changed = self.peers.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Probes those that are there now; one that moved is another.
    fn follow(&mut self) {
        let peers = self.peers.borrow_and_update().clone();
        let mut before = std::mem::take(&mut self.watched);
        for peer in peers {
            let Some(host) = plan::host(&self.networks, &peer) else { continue };
            let known = before.remove(&host).filter(|known| known.peer == peer);
            let watched = known.unwrap_or_else(|| {
                let ways = peer.blocks.iter().filter_map(|block| {
                    let probe = probe_address(*block);
                    self.sockets.contains_key(&Version::of(probe)).then_some(())?;
                    Some((peer.address_beside(probe)?, Way { probe, direct: false, unanswered: 0 }))
                });
                Watched {
                    peer: Arc::clone(&peer),
                    liveness: Liveness::answered(),
                    rounds: 0,
                    ways: ways.collect(),
                    size: Size::Unknown { tried: 0, times: 0 },
                }
            });
            self.watched.insert(host, watched);
        }
    }

    /// Counts every answer that has come.
    fn listen(&mut self, buffer: &mut [u8]) {
        for (version, socket) in &self.sockets {
            while let Ok(length) = socket.try_recv(buffer) {
                let reply = icmp::parse(*version, &buffer[..length]).filter(|reply| reply.id == self.id);
                let Some((host, question)) = reply.and_then(|reply| self.asked.remove(&reply.sequence)) else {
                    continue;
                };
                let Some(watched) = self.watched.get_mut(&host) else { continue };
                watched.liveness = Liveness::answered();
                match question {
                    Question::There => {}
                    Question::Direct(hop) => {
                        if let Some(way) = watched.ways.get_mut(&hop) {
                            (way.direct, way.unanswered) = (true, 0);
                        }
                    }
                    Question::Size(size) => watched.size = Size::Known(size),
                }
            }
        }
    }

    fn ask(&mut self, now: Instant, round: bool) {
        let mut questions = Vec::new();
        let fine = self.watched.values().filter(|watched| watched.liveness.is_fine()).count();
        let (mut at, end) = (0, self.cursor + ROUND);
        for (host, watched) in &mut self.watched {
            let turn = if watched.liveness.is_fine() {
                at += 1;
                // The round goes on at the beginning.
                round && ((self.cursor..end).contains(&(at - 1)) || (self.cursor..end).contains(&(at - 1 + fine)))
            } else {
                round || watched.liveness.is_doubted()
            };
            if turn {
                watched.liveness = watched.liveness.asked(now);
                questions.push((*host, *host, Question::There));
            }
            if round {
                watched.rounds = watched.rounds.saturating_add(1);
                for (hop, way) in &mut watched.ways {
                    let eager = if way.direct { way.unanswered > 0 } else { watched.rounds <= EAGER };
                    if eager || watched.rounds % SELDOM == 0 {
                        way.unanswered += 1;
                        way.direct &= way.unanswered <= MISSES;
                        questions.push((way.probe, *host, Question::Direct(*hop)));
                    }
                }
                if let Some(size) = watched.next_size(&self.sizes) {
                    questions.push((*host, *host, Question::Size(size)));
                }
            }
        }
        if round && fine > 0 {
            self.cursor = end % fine;
        }
        for (to, host, question) in questions {
            self.send(to, host, question);
        }
    }

    fn send(&mut self, to: IpAddr, host: IpAddr, question: Question) {
        let version = Version::of(to);
        let size = match question {
            Question::Size(size) => size as usize,
            Question::There | Question::Direct(_) => version.least(),
        };
        self.sequence = self.sequence.wrapping_add(1);
        let request = icmp::request(version, self.id, self.sequence, size);
        self.asked.insert(self.sequence, (host, question));
        // What cannot be sent is not answered either.
        if let Some(socket) = self.sockets.get(&version) {
            let _ = socket.try_send_to(&request, SocketAddr::new(to, 0));
        }
    }

    fn tell(&self) {
        let names = self.watched.values().filter(|watched| watched.liveness.is_suspect());
        let names: BTreeSet<String> = names.map(|watched| watched.peer.name.clone()).collect();
        self.suspects.send_if_modified(|suspects| {
            for name in names.difference(suspects) {
                tracing::warn!(node = %name, "the node does not answer: other nodes' endpoints are preferred");
            }
            for name in suspects.difference(&names) {
                tracing::info!(node = %name, "the node answers again");
            }
            let changed = *suspects != names;
            *suspects = names;
            changed
        });
        let ways = self.watched.values().flat_map(|watched| &watched.ways);
        let direct = ways.filter(|(_, way)| way.direct).map(|(hop, _)| *hop).collect();
        let narrow = self.watched.iter().filter_map(|(address, watched)| match watched.size {
            Size::Known(size) if Some(&size) != self.sizes.first() => Some((*address, size)),
            _ => None,
        });
        let probed = Probed { direct, narrow: narrow.collect() };
        self.found.send_if_modified(|found| {
            let changed = *found != probed;
            *found = probed;
            changed
        });
    }
}

impl Watched {
    /// The largest first; each twice, since an echo may be lost for other reasons. A node that answers none is not there.
    fn next_size(&mut self, sizes: &[u32]) -> Option<u32> {
        let Size::Unknown { tried, times } = &mut self.size else { return None };
        if *times == 2 {
            (*tried, *times) = ((*tried + 1) % sizes.len(), 0);
        }
        *times += 1;
        sizes.get(*tried).copied()
    }
}
