//! What a write to one watcher costs on this machine at least: TLS, two threads that wake each other and the disk, and nothing of
//! Sampan.
//!
//! ```text
//! this thread ── TLS ──▶ the server's: read ▸ overwrite 8 KiB, wait for the disk ▸ write to the other connection
//!      ▲                                                                                   │
//!      └────────────────────────────────── TLS ────────────────────────────────────────────┘
//! ```

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::disk::{PACE, Room, WRITES};
use super::stats::{median, milliseconds};

const NAME: &str = "localhost";
/// An object with what is around it.
const MESSAGE: [u8; 1500] = [b'x'; 1500];

/// The median milliseconds from sending the write to the event in the watcher's hands, both on one thread.
pub(super) fn write_to_watcher(folder: &Path) -> Result<f64> {
    let (server, client) = configurations()?;
    let room = Room::make(folder)?;
    let listener = TcpListener::bind("127.0.0.1:0").context("listening")?;
    let address = listener.local_addr().context("listening")?;
    let serving = std::thread::spawn(move || serve(&listener, &server, &room));
    let mut writer = connect(address, &client)?;
    let mut watcher = connect(address, &client)?;
    let (mut event, mut samples) = (MESSAGE, Vec::with_capacity(WRITES));
    for _ in 0..WRITES {
        std::thread::sleep(PACE);
        let begin = Instant::now();
        writer.write_all(&MESSAGE).context("writing")?;
        watcher.read_exact(&mut event).context("watching")?;
        samples.push(milliseconds(begin.elapsed()));
    }
    serving.join().map_err(|_| anyhow!("the server panicked"))??;
    median(&samples).context("no writes")
}

fn serve(listener: &TcpListener, config: &Arc<ServerConfig>, room: &Room) -> Result<()> {
    let accept = || -> Result<_> {
        let (mut tcp, _) = listener.accept().context("accepting")?;
        tcp.set_nodelay(true).context("accepting")?;
        let mut tls = ServerConnection::new(config.clone())?;
        tls.complete_io(&mut tcp).context("the server's handshake")?;
        Ok(StreamOwned::new(tls, tcp))
    };
    let (mut writer, mut watcher) = (accept()?, accept()?);
    let mut message = MESSAGE;
    for write in 0..WRITES {
        writer.read_exact(&mut message).context("reading a write")?;
        room.write(write)?;
        watcher.write_all(&message).context("telling of a write")?;
    }
    Ok(())
}

fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut tcp = TcpStream::connect(address).context("connecting")?;
    tcp.set_nodelay(true).context("connecting")?;
    let mut tls = ClientConnection::new(config.clone(), ServerName::try_from(NAME)?)?;
    tls.complete_io(&mut tcp).context("the client's handshake")?;
    Ok(StreamOwned::new(tls, tcp))
}

fn configurations() -> Result<(Arc<ServerConfig>, Arc<ClientConfig>)> {
    let signed = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)?;
    let mut roots = RootCertStore::empty();
    roots.add(signed.cert.der().clone())?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((Arc::new(server), Arc::new(client)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_time_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write_to_watcher(folder.path()).unwrap() > 0.0);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
