//! A server that says who it is and who asks, over TCP, UDP and SCTP, and its clients. The kernel of the tests has no SCTP
//! sockets: the first two packets of a handshake are made by hand.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::place::Place;

/// A server looks this often whether it is to end.
const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(3);
const SCTP: i32 = 132;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const STATE_COOKIE: u16 = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
    Sctp,
}

/// Answers on one port of every address of a namespace until it is dropped.
pub struct Echo {
    stop: Arc<AtomicBool>,
    servers: Vec<JoinHandle<()>>,
}

impl Echo {
    pub fn start(place: &Place, name: &str, port: u16) -> Result<Self> {
        let sockets = place.run(|| -> Result<_> {
            let any: SocketAddr = (Ipv6Addr::UNSPECIFIED, port).into();
            let tcp = TcpListener::bind(any).context("a TCP server")?;
            socket2::SockRef::from(&tcp).set_read_timeout(Some(LOOK)).context("a timeout")?;
            let udp = UdpSocket::bind(any).context("a UDP server")?;
            udp.set_read_timeout(Some(LOOK)).context("a timeout")?;
            Ok((tcp, udp, sctp(true, LOOK)?, sctp(false, LOOK)?))
        });
        let (tcp, udp, sctp4, sctp6) = sockets?;
        let stop = Arc::new(AtomicBool::new(false));
        let says = |source: IpAddr, name: &str| format!("{name} {}", source.to_canonical());
        let mut servers = Vec::new();
        let mut serve = |mut answer: Box<dyn FnMut() -> std::io::Result<()> + Send>| {
            let stop = Arc::clone(&stop);
            servers.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match answer() {
                        // A client that goes away is no reason to stop.
                        Ok(()) => {}
                        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                        Err(error) => eprintln!("an echo could not answer: {error}"),
                    }
                }
            }));
        };
        let own = name.to_owned();
        serve(Box::new(move || {
            let (mut stream, peer) = tcp.accept()?;
            stream.write_all(says(peer.ip(), &own).as_bytes())
        }));
        let own = name.to_owned();
        serve(Box::new(move || {
            let (_, peer) = udp.recv_from(&mut [0; 64])?;
            udp.send_to(says(peer.ip(), &own).as_bytes(), peer).map(drop)
        }));
        for raw in [sctp4, sctp6] {
            let own = name.to_owned();
            serve(Box::new(move || {
                let mut buffer = [0; 2048];
                let (length, peer) = raw.recv_from(&mut buffer)?;
                let Some(asked) = Packet::parse(peer.ip(), &buffer[..length]) else { return Ok(()) };
                if asked.chunk != INIT || asked.destination != port {
                    return Ok(());
                }
                let answer = Packet {
                    source: port,
                    destination: asked.source,
                    tag: asked.init_tag,
                    chunk: INIT_ACK,
                    init_tag: asked.init_tag,
                    words: says(peer.ip(), &own),
                };
                raw.send_to(&answer.bytes(), SocketAddr::new(peer.ip(), 0)).map(drop)
            }));
        }
        Ok(Self { stop, servers })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for server in self.servers.drain(..) {
            let _ = server.join();
        }
    }
}

impl Transport {
    /// Who answers in the calling thread's namespace, and whom it saw.
    pub fn ask(self, address: SocketAddr) -> Result<(String, IpAddr)> {
        let answer = match self {
            Self::Tcp => ask_tcp(address),
            Self::Udp => ask_udp(address),
            Self::Sctp => ask_sctp(address),
        };
        let answer = answer.with_context(|| format!("asking {address} over {self:?}"))?;
        let (name, seen) = answer.split_once(' ').with_context(|| format!("{answer:?}"))?;
        Ok((name.to_owned(), seen.parse().context("an address")?))
    }
}

fn ask_tcp(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn ask_udp(address: SocketAddr) -> Result<String> {
    let socket = UdpSocket::bind(SocketAddr::new(anywhere(address.ip()), 0))?;
    // Connected: an answer from elsewhere is none.
    socket.connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"who?")?;
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn ask_sctp(address: SocketAddr) -> Result<String> {
    static SOURCE: AtomicU16 = AtomicU16::new(20_000);
    let source = SOURCE.fetch_add(1, Ordering::Relaxed);
    let raw = sctp(address.is_ipv4(), PATIENCE)?;
    let question = Packet {
        source,
        destination: address.port(),
        tag: 0,
        chunk: INIT,
        init_tag: 0x0102_0304,
        words: String::new(),
    };
    raw.send_to(&question.bytes(), SocketAddr::new(address.ip(), 0))?;
    let mut buffer = [0; 2048];
    loop {
        let (length, peer) = raw.recv_from(&mut buffer)?;
        let Some(answer) = Packet::parse(peer.ip(), &buffer[..length]) else { continue };
        if answer.destination == source && answer.chunk == INIT_ACK {
            ensure!(SocketAddr::new(peer.ip(), answer.source) == address, "{peer} port {} answered", answer.source);
            return Ok(answer.words);
        }
        if answer.destination == source && answer.chunk != INIT {
            bail!("chunk {}", answer.chunk);
        }
    }
}

fn anywhere(beside: IpAddr) -> IpAddr {
    if beside.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// A raw socket, which is used like one of datagrams; ports of its addresses mean nothing.
fn sctp(v4: bool, timeout: Duration) -> Result<UdpSocket> {
    let domain = if v4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(SCTP))).context("a raw socket")?;
    socket.set_read_timeout(Some(timeout)).context("a timeout")?;
    Ok(socket.into())
}

/// One of the two packets that begin an association.
struct Packet {
    source: u16,
    destination: u16,
    tag: u32,
    chunk: u8,
    init_tag: u32,
    /// What an INIT ACK carries as its cookie.
    words: String,
}

impl Packet {
    fn bytes(&self) -> Vec<u8> {
        let mut chunk = vec![self.chunk, 0, 0, 0];
        chunk.extend(self.init_tag.to_be_bytes());
        // Receiver window, streams out and in, first sequence number.
        chunk.extend([0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1]);
        if !self.words.is_empty() {
            chunk.extend(STATE_COOKIE.to_be_bytes());
            chunk.extend(((self.words.len() + 4) as u16).to_be_bytes());
            chunk.extend(self.words.as_bytes());
        }
        let length = chunk.len() as u16;
        chunk[2..4].copy_from_slice(&length.to_be_bytes());
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        let mut packet = [self.source.to_be_bytes(), self.destination.to_be_bytes()].concat();
        packet.extend(self.tag.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(chunk);
        let sum = crc32c(&packet);
        packet[8..12].copy_from_slice(&sum.to_le_bytes());
        packet
    }

    /// From what a raw socket receives: of IPv4 with the IP header.
    fn parse(peer: IpAddr, bytes: &[u8]) -> Option<Self> {
        let header = if peer.is_ipv4() { usize::from(bytes.first()? & 15) * 4 } else { 0 };
        let bytes = bytes.get(header..)?;
        let short = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let long = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let words = bytes.get(36..12 + usize::from(short(14)?)).unwrap_or_default();
        Some(Self {
            source: short(0)?,
            destination: short(2)?,
            tag: long(4)?,
            chunk: *bytes.get(12)?,
            init_tag: long(16)?,
            words: String::from_utf8_lossy(words).into_owned(),
        })
    }
}

/// SCTP's checksum.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32| if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
    !bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| step(sum)))
}
