//! Asking with dig, and a resolver outside the cluster to be asked by it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::place::Place;

/// What dig prints of an answer, records with single spaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dig {
    /// `NOERROR`, `NXDOMAIN`, …
    pub status: String,
    /// `qr aa rd ra`, and `tc`.
    pub flags: Vec<String>,
    pub answer: Vec<String>,
    pub authority: Vec<String>,
    pub additional: Vec<String>,
}

impl Dig {
    /// Asks the cluster's DNS from `place`: `["web.default.svc.cluster.local", "A", "+tcp"]`.
    pub fn ask(place: &Place, arguments: &[&str]) -> Result<Self> {
        let output = place.run(|| {
            let fixed =
                ["@10.43.0.10", "+noall", "+comments", "+answer", "+authority", "+additional", "+tries=1", "+time=10"];
            // Its own configuration files are of no interest here.
            Command::new("dig").env("HOME", "/nonexistent").args(fixed).args(arguments).output()
        });
        let output = output.context("running dig")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "dig {arguments:?}: {text}");
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut dig = Self::default();
        let mut section = None;
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once("status: ") {
                dig.status = rest.split(',').next().unwrap_or_default().to_owned();
            } else if let Some(rest) = line.strip_prefix(";; flags: ") {
                let flags = rest.split(';').next().unwrap_or_default();
                dig.flags = flags.split_whitespace().map(ToOwned::to_owned).collect();
            } else if let Some(name) = line.strip_prefix(";; ").and_then(|rest| rest.strip_suffix(" SECTION:")) {
                section = Some(name.to_owned());
            } else if !line.is_empty() && !line.starts_with(';') {
                let record = line.split_whitespace().collect::<Vec<_>>().join(" ");
                match section.as_deref() {
                    Some("ANSWER") => dig.answer.push(record),
                    Some("AUTHORITY") => dig.authority.push(record),
                    Some("ADDITIONAL") => dig.additional.push(record),
                    _ => {}
                }
            }
        }
        dig
    }
}

/// Answers A queries for the names it is told of, over UDP and TCP, and denies all others.
pub struct Resolver {
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Resolver {
    /// Serves until the test ends.
    pub fn start(place: &Place, address: SocketAddr, names: &[(&str, Ipv4Addr)]) -> Result<Self> {
        let (udp, tcp) =
            place.run(|| -> std::io::Result<_> { Ok((UdpSocket::bind(address)?, TcpListener::bind(address)?)) })?;
        let names: BTreeMap<String, Ipv4Addr> = names.iter().map(|(name, ip)| ((*name).to_owned(), *ip)).collect();
        let asked: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
        let (names, count) = (Arc::new(names), Arc::clone(&asked));
        let respond = move |query: &[u8]| respond(query, &names, &count);
        let over_tcp = respond.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
                if let Some(answer) = respond(&buffer[..length]) {
                    // The server may have gone away.
                    let _ = udp.send_to(&answer, peer);
                }
            }
        });
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let mut serve = || -> std::io::Result<()> {
                    let mut length = [0; 2];
                    loop {
                        stream.read_exact(&mut length)?;
                        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                        stream.read_exact(&mut query)?;
                        let Some(answer) = over_tcp(&query) else { return Ok(()) };
                        let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
                        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
                    }
                };
                // Clients hang up.
                let _ = serve();
            }
        });
        Ok(Self { asked })
    }

    /// How often a name was asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied().unwrap_or(0)
    }
}

fn respond(
    query: &[u8],
    names: &BTreeMap<String, Ipv4Addr>,
    asked: &Mutex<BTreeMap<String, usize>>,
) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = query.get(at..at + 2)?;
    let name = labels.join(".");
    *asked.lock().unwrap_or_else(PoisonError::into_inner).entry(name.clone()).or_default() += 1;
    let found = names.get(&name);
    let record = found.filter(|_| *kind == [0, 1]);
    let mut answer = query.get(..2)?.to_vec();
    // A response, recursion desired and available; no such name where there is none.
    answer.extend([0x81, if found.is_some() { 0x80 } else { 0x83 }]);
    answer.extend([0, 1, 0, u8::from(record.is_some()), 0, 0, 0, 0]);
    answer.extend(query.get(12..at + 4)?);
    if let Some(ip) = record {
        // The name is the question's; type A, class IN, 60 s, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(ip.octets());
    }
    Some(answer)
}
