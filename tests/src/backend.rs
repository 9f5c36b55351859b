//! An HTTPS server on the node that the cluster does not know: what an administrator runs behind a Service or a proxy.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::cluster::Cluster;
use crate::place::Place;

/// One request as it came; header names are lower case.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    /// With its query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// Whose client certificates are asked for.
pub enum Trust<'a> {
    Nobodys,
    /// Of this authority (PEM); others may not even ask.
    Of(&'a str),
}

/// Writes the whole answer, head and all; the connection ends after it.
pub type Answering = dyn Fn(&Asked, &mut dyn Write) -> Result<()> + Send + Sync;

type Connections = Arc<Mutex<BTreeMap<u32, TcpStream>>>;

/// Listens on every address of the node until it is dropped.
pub struct Backend {
    pub port: u16,
    stop: Arc<AtomicBool>,
    connections: Connections,
}

/// An authority that signs for servers and clients of a test: who it is in PEM, and what signs.
pub fn authority(name: &str) -> Result<(String, Issuer<'static, KeyPair>)> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok((pem, Issuer::new(params, key)))
}

impl Backend {
    /// On `port` (0: any), with a certificate of `issuer` for `name`.
    pub fn start(
        cluster: &Cluster,
        port: u16,
        (issuer, name): (&Issuer<'static, KeyPair>, &str),
        trust: &Trust<'_>,
        answering: Arc<Answering>,
    ) -> Result<Self> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer)?.der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let config = match trust {
            Trust::Nobodys => config.with_no_client_auth(),
            Trust::Of(authority) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
                    roots.add(certificate.map_err(|error| anyhow::anyhow!("{error:?}"))?)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
                config.with_client_cert_verifier(verifier)
            }
        };
        let config = Arc::new(config.with_single_cert(vec![certificate], key)?);
        // A socket stays in the namespace of the thread that made it.
        let listener = Place::node(cluster)?.run(|| TcpListener::bind(("0.0.0.0", port)))?;
        let (port, stop, connections) =
            (listener.local_addr()?.port(), Arc::new(AtomicBool::new(false)), Connections::default());
        let backend = Self { port, stop: stop.clone(), connections: connections.clone() };
        std::thread::spawn(move || {
            for (number, tcp) in (0..).zip(listener.incoming().map_while(Result::ok)) {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(kept) = tcp.try_clone() else { return };
                lock(&connections).insert(number, kept);
                let (config, answering, connections) = (config.clone(), answering.clone(), connections.clone());
                std::thread::spawn(move || {
                    // A client that goes away is no failure.
                    let _ = serve(tcp, config, &*answering);
                    lock(&connections).remove(&number);
                });
            }
        });
        Ok(backend)
    }

    /// Ends it and its connections, as a process that dies.
    pub fn kill(&self, cluster: &Cluster) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        // The listener wakes for one more connection, and is gone with it.
        drop(Place::node(cluster)?.run(|| TcpStream::connect(("127.0.0.1", self.port)))?);
        crate::eventually("a port that nobody listens on", || {
            let answer = Place::node(cluster)?.run(|| TcpStream::connect(("127.0.0.1", self.port)));
            anyhow::ensure!(answer.is_err(), "somebody does");
            Ok(())
        });
        for connection in lock(&self.connections).values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        Ok(())
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(tcp: TcpStream, config: Arc<ServerConfig>, answering: &Answering) -> Result<()> {
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(config)?, tcp));
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(());
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut asked = Asked { method, target, ..Asked::default() };
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if let [length] = asked.all("content-length")[..] {
        asked.body = vec![0; length.parse().context("a length")?];
        stream.read_exact(&mut asked.body)?;
    }
    answering(&asked, stream.get_mut())?;
    stream.get_mut().flush()?;
    stream.get_mut().conn.send_close_notify();
    stream.get_mut().flush()?;
    Ok(())
}
