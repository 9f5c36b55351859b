//! Echoes to the other nodes: are they there, does the network carry pods' packets to them, and how large may those be.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Instant;

use base_sys::icmp;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::liveness::{FAST, Liveness, TICK};
use super::peers::Peer;
use super::plan::probe_address;

/// How many nodes that seem fine are asked in one round.
const ROUND: usize = 64;
/// The smallest IPv4 packet with an echo.
const SMALL: u32 = 28;
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
    /// Pods' packets come through as they are.
    pub(super) direct: BTreeSet<Ipv4Addr>,
    /// Less comes through than the link takes: bytes of the largest packet.
    pub(super) narrow: BTreeMap<Ipv4Addr, u32>,
}

/// What an echo is to find out.
#[derive(Clone, Copy, Debug)]
enum Question {
    There,
    Direct,
    /// A packet of so many bytes.
    Size(u32),
}

#[derive(Debug)]
struct Watched {
    peer: Arc<Peer>,
    liveness: Liveness,
    /// Rounds since this node is probed.
    rounds: u32,
    direct: bool,
    unanswered: u32,
    size: Size,
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
    socket: UdpSocket,
    /// Tells our echoes from other programs'.
    id: u16,
    sequence: u16,
    asked: HashMap<u16, (Ipv4Addr, Question)>,
    /// The link's own size, then the smaller ones.
    sizes: Vec<u32>,
    watched: BTreeMap<Ipv4Addr, Watched>,
    /// Where the next round of those that seem fine begins.
    cursor: usize,
    peers: watch::Receiver<Vec<Arc<Peer>>>,
    suspects: watch::Sender<BTreeSet<String>>,
    found: watch::Sender<Probed>,
}

impl Prober {
    pub(super) fn open(
        mtu: u32,
        peers: watch::Receiver<Vec<Arc<Peer>>>,
        suspects: watch::Sender<BTreeSet<String>>,
        found: watch::Sender<Probed>,
    ) -> io::Result<Self> {
        let socket = UdpSocket::from_std(icmp::open()?)?;
        let mut sizes = vec![mtu];
        sizes.extend(SIZES.into_iter().filter(|size| *size < mtu));
        Ok(Self {
            socket,
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
            let known = before.remove(&peer.address).filter(|known| known.peer == peer);
            let watched = known.unwrap_or_else(|| Watched {
                peer: Arc::clone(&peer),
                liveness: Liveness::answered(),
                rounds: 0,
                direct: false,
                unanswered: 0,
                size: Size::Unknown { tried: 0, times: 0 },
            });
            self.watched.insert(peer.address, watched);
        }
    }

    /// Counts every answer that has come.
    fn listen(&mut self, buffer: &mut [u8]) {
        while let Ok(length) = self.socket.try_recv(buffer) {
            let Some(reply) = icmp::parse(&buffer[..length]).filter(|reply| reply.id == self.id) else { continue };
            let Some((address, question)) = self.asked.remove(&reply.sequence) else { continue };
            let Some(watched) = self.watched.get_mut(&address) else { continue };
            watched.liveness = Liveness::answered();
            match question {
                Question::There => {}
                Question::Direct => {
                    watched.direct = true;
                    watched.unanswered = 0;
                }
                Question::Size(size) => watched.size = Size::Known(size),
            }
        }
    }

    fn ask(&mut self, now: Instant, round: bool) {
        let mut questions = Vec::new();
        let fine = self.watched.values().filter(|watched| watched.liveness.is_fine()).count();
        let (mut at, end) = (0, self.cursor + ROUND);
        for (address, watched) in &mut self.watched {
            let turn = if watched.liveness.is_fine() {
                at += 1;
                // The round goes on at the beginning.
                round && ((self.cursor..end).contains(&(at - 1)) || (self.cursor..end).contains(&(at - 1 + fine)))
            } else {
                round || watched.liveness.is_doubted()
            };
            if turn {
                watched.liveness = watched.liveness.asked(now);
                questions.push((*address, *address, Question::There));
            }
            if round {
                watched.rounds = watched.rounds.saturating_add(1);
                let eager = if watched.direct { watched.unanswered > 0 } else { watched.rounds <= EAGER };
                if eager || watched.rounds % SELDOM == 0 {
                    watched.unanswered += 1;
                    watched.direct &= watched.unanswered <= MISSES;
                    questions.push((probe_address(watched.peer.block), *address, Question::Direct));
                }
                if let Some(size) = watched.next_size(&self.sizes) {
                    questions.push((*address, *address, Question::Size(size)));
                }
            }
        }
        if round && fine > 0 {
            self.cursor = end % fine;
        }
        for (to, address, question) in questions {
            self.send(to, address, question);
        }
    }

    fn send(&mut self, to: Ipv4Addr, address: Ipv4Addr, question: Question) {
        let size = match question {
            Question::Size(size) => size,
            Question::There | Question::Direct => SMALL,
        };
        self.sequence = self.sequence.wrapping_add(1);
        let request = icmp::request(self.id, self.sequence, size as usize);
        self.asked.insert(self.sequence, (address, question));
        // What cannot be sent is not answered either.
        let _ = self.socket.try_send_to(&request, SocketAddrV4::new(to, 0).into());
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
        let direct = self.watched.iter().filter(|(_, watched)| watched.direct).map(|(address, _)| *address).collect();
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
