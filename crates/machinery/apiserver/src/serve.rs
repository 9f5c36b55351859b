//! The HTTPS listener: accept, handshake, serve, drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ApiServer;
use crate::authentication::{Caller, Proved};
use crate::unread::Unread;

/// A client that has not finished its handshake by then is dropped.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a connection may take over a request's head; idle connections are closed by it too.
const HEAD: Duration = Duration::from_secs(120);

/// How long requests under way may take once a drain has begun.
const DRAIN: Duration = Duration::from_secs(10);

const MAX_STREAMS: u32 = 250;

/// The TLS side of a listener: client certificates are verified where shown, and not required; HTTP/2 is offered.
pub fn tls_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_authorities: RootCertStore,
) -> Result<rustls::ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(client_authorities), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

impl ApiServer {
    /// Serves until `shutdown` resolves, then drains: no new connections, watches end, requests under way finish
    /// within ten seconds. `/readyz` fails from the start of the drain.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        let acceptor = TlsAcceptor::from(tls);
        let connections = TaskTracker::new();
        let abort = CancellationToken::new();
        tokio::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let connection = self.clone().connection(stream, peer, acceptor.clone());
                    let abort = abort.clone();
                    connections.spawn(async move {
                        tokio::select! {
                            () = connection => {}
                            () = abort.cancelled() => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    // Out of descriptors: the next accept would fail at once, too.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(listener);
        self.inner.drain.cancel();
        connections.close();
        self.inner.writes.close();
        self.inner.unread.close();
        let finished = async {
            connections.wait().await;
            self.inner.writes.wait().await;
            self.inner.unread.wait().await;
        };
        if tokio::time::timeout(DRAIN, finished).await.is_err() {
            tracing::warn!(connections = connections.len(), "connections cut at the end of the drain");
            abort.cancel();
            connections.wait().await;
        }
    }

    async fn connection(self, stream: TcpStream, peer: SocketAddr, acceptor: TlsAcceptor) {
        // Answers are written whole; waiting to fill a segment only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "connection lost before its handshake");
            return;
        }
        let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "TLS handshake failed");
                return;
            }
            Err(_) => {
                tracing::debug!(%peer, "TLS handshake took too long");
                return;
            }
        };
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let proved = Proved::by(certificates, &self.inner.authenticators);
        let inner = self.inner.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let caller = Caller::Connection(proved.clone());
            request.extensions_mut().insert(peer);
            let request = request.map(|body| Unread::new(body, inner.unread.clone()));
            let answer = inner.clone().serve(caller, request);
            async move { Ok::<_, std::convert::Infallible>(answer.await) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let drained = self.inner.drain.cancelled();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = drained => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }
}
