//! A webhook on the node: what an administrator's own HTTPS server would be to the API server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use base64::Engine as _;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::host::NODE_IP;
use crate::place::Place;

/// What it makes of a request (an `AdmissionRequest`) to a path: the response, without its uid.
pub type Answering = fn(&str, &Value) -> Value;

type Seen = Arc<Mutex<Vec<(String, Value)>>>;

/// Listens on every address of the node until the test ends.
pub struct Webhook {
    pub port: u16,
    /// Its certificate, as a `caBundle`.
    pub ca_bundle: String,
    seen: Seen,
}

impl Webhook {
    /// `names` beside the node's address are what its certificate is for.
    pub fn start(cluster: &Cluster, names: &[&str], answering: Answering) -> Result<Self> {
        let names = [NODE_IP].iter().chain(names).map(|name| (*name).to_owned());
        let signed = rcgen::generate_simple_self_signed(names.collect::<Vec<_>>())?;
        let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_no_client_auth().with_single_cert(vec![signed.cert.der().clone()], key)?;
        let ca_bundle = base64::engine::general_purpose::STANDARD.encode(signed.cert.pem());
        // A socket stays in the namespace of the thread that made it.
        let listener = Place::node(cluster)?.run(|| TcpListener::bind("0.0.0.0:0"))?;
        let port = listener.local_addr()?.port();
        let seen = Seen::default();
        let (config, kept) = (Arc::new(config), seen.clone());
        std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let (config, seen) = (config.clone(), kept.clone());
                // A client that goes away is no failure.
                std::thread::spawn(move || drop(serve(tcp, config, answering, &seen)));
            }
        });
        Ok(Self { port, ca_bundle, seen })
    }

    /// The `clientConfig` of a webhook at `path`, by URL.
    pub fn at(&self, path: &str) -> Value {
        json!({"url": format!("https://{NODE_IP}:{}{path}", self.port), "caBundle": self.ca_bundle})
    }

    /// The requests that came to `path`, in order.
    pub fn seen(&self, path: &str) -> Vec<Value> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|(at, _)| at == path).map(|(_, request)| request.clone()).collect()
    }
}

/// Requests of one connection, one after the other.
fn serve(tcp: TcpStream, config: Arc<ServerConfig>, answering: Answering, seen: &Seen) -> Result<()> {
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(config)?, tcp));
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let target = head.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
        let mut body = vec![0; length.context("a length")?.trim().parse()?];
        stream.read_exact(&mut body)?;
        let review: Value = serde_json::from_slice(&body)?;
        let mut response = answering(&path, &review["request"]);
        response["uid"] = review["request"]["uid"].clone();
        seen.lock().unwrap_or_else(PoisonError::into_inner).push((path, review["request"].clone()));
        let answer = json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response});
        let answer = answer.to_string();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", answer.len());
        stream.get_mut().write_all((head + &answer).as_bytes())?;
        stream.get_mut().flush()?;
    }
}
