//! exec, attach and port-forward: a request is answered with a URL of this node's loopback, whose token is good once and for a
//! minute. Behind it is spoken what the node's own API speaks: SPDY and WebSocket.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base_tasks::Tasks;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use node_grpc::messages::cri;
use node_grpc::{Code, Status};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::{Server, failed, new_id, spec};
use crate::pods::Machine;
use crate::seams::{ExecSpec, label};
use crate::server::routes::Target;
use crate::server::{Body, attach, forward, refused, routes, text};
use crate::{forward as forwarding, streams};

/// As upstream's.
const LIFE: Duration = Duration::from_secs(60);
const MOST: usize = 1000;
/// Out of descriptors, most likely: connections are given time to end.
const BREATH: Duration = Duration::from_millis(100);

/// What a token stands for.
enum Asked {
    Exec { container: String, spec: ExecSpec },
    Attach { container: String, log: PathBuf, spec: ExecSpec },
    PortForward { pod: String, uid: String, ports: Vec<u16> },
}

pub(super) struct Streaming {
    tasks: Tasks,
    shared: Arc<Shared>,
    /// Bound when the first URL is asked for.
    address: OnceCell<SocketAddr>,
}

struct Shared {
    machine: Arc<Machine>,
    tokens: Mutex<HashMap<String, (Instant, Asked)>>,
}

impl Server {
    pub(super) async fn exec(&self, request: cri::ExecRequest) -> Result<String, Status> {
        let (_, container) = self.running(&request.container_id).await?;
        if request.cmd.is_empty() {
            return Err(spec::invalid("no command specified"));
        }
        let (tty, streams) = (request.tty, (request.stdin, request.stdout, request.stderr));
        let spec = wanted(request.cmd, tty, streams)?;
        self.streaming.url("exec", Asked::Exec { container: container.id, spec }).await
    }

    pub(super) async fn attach(&self, request: cri::AttachRequest) -> Result<String, Status> {
        let (_, container) = self.running(&request.container_id).await?;
        let log = self.runtime.inspect(&container.id).await.map_err(failed)?.log_path.unwrap_or_default();
        let spec = wanted(Vec::new(), request.tty, (request.stdin, request.stdout, request.stderr))?;
        self.streaming.url("attach", Asked::Attach { container: container.id, log, spec }).await
    }

    pub(super) async fn port_forward(&self, request: cri::PortForwardRequest) -> Result<String, Status> {
        let sandbox = self.sandbox(&request.pod_sandbox_id).await?;
        if !sandbox.ready {
            return Err(Status::new(Code::FailedPrecondition, format!("sandbox {:?} is not ready", sandbox.id)));
        }
        let port = |port: &i32| u16::try_from(*port).ok().filter(|port| *port > 0);
        let ports: Option<Vec<u16>> = request.port.iter().map(port).collect();
        let ports = ports.ok_or_else(|| spec::invalid("a port is from 1 to 65535"))?;
        let text = |key: &str| sandbox.labels.get(key).cloned().unwrap_or_default();
        let asked = Asked::PortForward { pod: text(label::POD_NAME), uid: text(label::POD_UID), ports };
        self.streaming.url("portforward", asked).await
    }
}

fn wanted(args: Vec<String>, tty: bool, (stdin, stdout, stderr): (bool, bool, bool)) -> Result<ExecSpec, Status> {
    if tty && stderr {
        return Err(spec::invalid("tty and stderr cannot both be true"));
    }
    if !stdin && !stdout && !stderr {
        return Err(spec::invalid("one of stdin, stdout, or stderr must be set"));
    }
    Ok(ExecSpec { args, tty, stdin, stdout, stderr })
}

impl Streaming {
    pub(super) fn new(tasks: &Tasks, machine: Arc<Machine>) -> Self {
        let shared = Arc::new(Shared { machine, tokens: Mutex::default() });
        Self { tasks: tasks.clone(), shared, address: OnceCell::new() }
    }

    async fn url(&self, verb: &str, asked: Asked) -> Result<String, Status> {
        let address = self.address.get_or_try_init(|| self.listen()).await?;
        let token = self.shared.keep(asked, new_id()?)?;
        Ok(format!("http://{address}/{verb}/{token}"))
    }

    async fn listen(&self) -> Result<SocketAddr, Status> {
        let failed = |error: std::io::Error| Status::new(Code::Internal, format!("listen for streams: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (shared, connections) = (Arc::clone(&self.shared), self.tasks.child("streams"));
        self.tasks.spawn("streams", async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let shared = Arc::clone(&shared);
                        connections.spawn("connection", async move { shared.serve(stream).await });
                    }
                    Err(_) => tokio::time::sleep(BREATH).await,
                }
            }
        });
        Ok(address)
    }
}

impl Shared {
    fn keep(&self, asked: Asked, token: String) -> Result<String, Status> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        tokens.retain(|_, (since, _)| now.duration_since(*since) < LIFE);
        if tokens.len() >= MOST {
            return Err(Status::new(Code::ResourceExhausted, "maximum number of in-flight requests exceeded"));
        }
        tokens.insert(token.clone(), (now, asked));
        Ok(token)
    }

    /// What the token stands for, once.
    fn take(&self, token: &str) -> Option<Asked> {
        let (since, asked) = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(token)?;
        (since.elapsed() < LIFE).then_some(asked)
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        // What is typed must not wait for the next word; without it all the same.
        let _ = stream.set_nodelay(true);
        let service = service_fn(move |request: Request<Incoming>| {
            let shared = Arc::clone(&self);
            async move { Ok::<_, Infallible>(shared.answer(request)) }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection for streams ended");
        }
    }

    fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let machine = &self.machine;
        let token = request.uri().path().rsplit('/').next().unwrap_or_default();
        let Some(asked) = self.take(token) else { return text(StatusCode::NOT_FOUND, "404 page not found\n") };
        let (target, spec) = match asked {
            Asked::PortForward { pod, uid, ports } => {
                let handshake = match forwarding::OFFERS.negotiate(request.headers()) {
                    Ok(handshake) => handshake,
                    Err(error) => return refused(&error),
                };
                let target = forwarding::Target { runtime: Arc::clone(&machine.runtime), name: pod, uid };
                // Connections end with the pod's network; the client is told nothing else of its end.
                let gone = Box::pin(std::future::pending());
                return forward::run(machine, target, ports, gone, handshake, request);
            }
            Asked::Exec { container, spec } => (Target::Exec(container), spec),
            Asked::Attach { container, log, spec } => (Target::Attach(attach::Target::running(container, log)), spec),
        };
        match streams::OFFERS.negotiate(request.headers()) {
            Ok(handshake) => routes::run(machine, target, spec, handshake, request),
            Err(error) => refused(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::World;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_once_and_for_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let shared = Shared { machine: World::new().machine(dir.path()), tokens: Mutex::default() };
        let asked = || Asked::PortForward { pod: "p".into(), uid: "u".into(), ports: Vec::new() };
        shared.keep(asked(), "a".into()).unwrap();
        assert!(shared.take("a").is_some() && shared.take("a").is_none() && shared.take("b").is_none());
        shared.keep(asked(), "a".into()).unwrap();
        tokio::time::advance(LIFE).await;
        assert!(shared.take("a").is_none());
        for number in 0..MOST {
            shared.keep(asked(), number.to_string()).unwrap();
        }
        assert_eq!(shared.keep(asked(), "more".into()).unwrap_err().code, Code::ResourceExhausted);
        tokio::time::advance(LIFE).await;
        shared.keep(asked(), "more".into()).unwrap();
    }

    #[test]
    fn streams_that_cannot_be_are_refused() {
        let code = |tty, streams| wanted(Vec::new(), tty, streams).map(drop).map_err(|status| status.code);
        assert_eq!(code(false, (false, false, false)), Err(Code::InvalidArgument));
        assert_eq!(code(true, (true, true, true)), Err(Code::InvalidArgument));
        assert_eq!(code(true, (true, true, false)), Ok(()));
    }
}
