//! Connections as a client makes them: one request each, from some place.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::place::Place;

/// A client gives up then; a lost packet costs a second or three, and is not a failure yet.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a server answered.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub body: String,
}

/// One new connection from the calling thread's namespace, one request.
pub fn get(address: SocketAddr, path: &str) -> Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).with_context(|| format!("connecting {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT)).context("a read timeout")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).context("sending the request")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("reading the answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no HTTP answer: {answer:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("no HTTP status: {head:?}"))?;
    Ok(Response { status, body: body.to_owned() })
}

/// Clients that connect again and again until stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Outcome>>,
}

/// What the clients of a [`Load`] saw.
#[derive(Debug, Default)]
pub struct Outcome {
    pub succeeded: usize,
    /// When after the start, and why.
    pub failed: Vec<(Duration, String)>,
    pub slowest: Duration,
}

impl Load {
    /// Two clients in `place`.
    pub fn start(place: &Arc<Place>, address: SocketAddr) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = || {
            let (place, stop, done) = (Arc::clone(place), Arc::clone(&stop), Arc::clone(&done));
            std::thread::spawn(move || {
                place.enter().expect("the namespace is still there");
                connect_until(&stop, &done, address)
            })
        };
        let clients = (0..2).map(|_| client()).collect();
        Self { stop, done, clients }
    }

    /// How many connections have been made.
    pub fn made(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until `count` more connections have been made.
    pub fn go_on_for(&self, count: usize) {
        let goal = self.made() + count;
        crate::eventually("more connections", || {
            ensure!(self.made() >= goal, "{} of {goal} connections", self.made());
            Ok(())
        });
    }

    pub fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Outcome::default();
        for client in self.clients {
            let outcome = client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            sum.succeeded += outcome.succeeded;
            sum.failed.extend(outcome.failed);
            sum.slowest = sum.slowest.max(outcome.slowest);
        }
        sum
    }
}

impl Outcome {
    /// Every connection was answered, and there were some.
    #[track_caller]
    pub fn assert_perfect(&self, from: &str) {
        let (failed, all) = (self.failed.len(), self.succeeded + self.failed.len());
        let first: Vec<_> = self.failed.iter().take(10).collect();
        assert!(all > 0, "no connection was made from {from}");
        assert!(failed == 0, "{failed} of {all} connections from {from} failed, the first: {first:#?}");
    }
}

fn connect_until(stop: &AtomicBool, done: &AtomicUsize, address: SocketAddr) -> Outcome {
    let mut outcome = Outcome::default();
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let before = Instant::now();
        match get(address, "/") {
            Ok(Response { status: 200, .. }) => outcome.succeeded += 1,
            Ok(response) => outcome.failed.push((start.elapsed(), format!("status {}", response.status))),
            Err(error) => outcome.failed.push((start.elapsed(), format!("{error:#}"))),
        }
        outcome.slowest = outcome.slowest.max(before.elapsed());
        done.fetch_add(1, Ordering::Relaxed);
    }
    outcome
}
