//! Names of others: asked of their servers, remembered within bounds, given up in bounded time.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::sync::Semaphore;

use crate::host::Host;
use crate::reply::Reply;
use crate::settings::Settings;

/// A server that is silent for so long is asked once more.
const SILENCE: Duration = Duration::from_secs(2);
/// Clients wait five seconds; they shall hear before that that nobody answers.
const PATIENCE: Duration = Duration::from_millis(4500);
/// Answers remembered for each group of servers, "no" among them, and for how long at most.
const REMEMBERED: u64 = 4096;
const REMEMBERED_FOR: Duration = Duration::from_secs(3600);
const NO_REMEMBERED_FOR: Duration = Duration::from_secs(1800);
/// Questions to others at a time: a loop between servers, or silent ones, must not take all memory.
const AT_A_TIME: usize = 1000;
/// Servers of a group asked at once.
const TOGETHER: usize = 3;

pub struct Forward {
    /// This server's own addresses, which it never asks.
    own: Vec<IpAddr>,
    resolv_conf: PathBuf,
    routes: RwLock<Arc<Routes>>,
    source: Mutex<Source>,
    places: Semaphore,
}

#[derive(Clone, Default)]
struct Routes {
    /// The longest domain first.
    stubs: Vec<(Name, TokioResolver)>,
    upstream: Option<TokioResolver>,
}

/// Where the servers for all other names come from.
enum Source {
    Host(Host),
    Settings,
}

impl Forward {
    /// Asks the host's resolvers until told otherwise.
    pub fn new(own: Vec<IpAddr>, resolv_conf: PathBuf) -> Self {
        Self {
            own,
            routes: RwLock::default(),
            source: Mutex::new(Source::Host(Host::new(resolv_conf.clone()))),
            resolv_conf,
            places: Semaphore::new(AT_A_TIME),
        }
    }

    /// Follows new settings; what was remembered of others' answers is forgotten.
    pub fn configure(&self, settings: &Settings) {
        let group = |servers: &[SocketAddr]| {
            let others = servers.iter().filter(|server| !self.own.contains(&server.ip())).copied().collect::<Vec<_>>();
            resolver(&others)
        };
        let stubs = settings.stubs.iter().filter_map(|(domain, servers)| Some((domain.clone(), group(servers)?)));
        let routes = Routes { stubs: stubs.collect(), upstream: settings.upstream.as_deref().and_then(group) };
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        *source = match &settings.upstream {
            Some(_) => Source::Settings,
            None => Source::Host(Host::new(self.resolv_conf.clone())),
        };
        *self.routes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(routes);
    }

    fn routes(&self) -> Arc<Routes> {
        let changed = match &mut *self.source.lock().unwrap_or_else(PoisonError::into_inner) {
            Source::Host(host) => host.changed(&self.own, Instant::now()),
            Source::Settings => None,
        };
        if let Some(servers) = changed {
            let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
            *routes = Arc::new(Routes { stubs: routes.stubs.clone(), upstream: resolver(&servers) });
        }
        Arc::clone(&self.routes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the servers of `name` say; SERVFAIL where none says anything in time.
    pub async fn lookup(&self, name: &Name, kind: RecordType) -> Reply {
        let routes = self.routes();
        let stub = routes.stubs.iter().find(|(domain, _)| domain.zone_of(name)).map(|(_, resolver)| resolver);
        let failed = || Reply::code(ResponseCode::ServFail);
        let (Some(resolver), Ok(_place)) = (stub.or(routes.upstream.as_ref()), self.places.try_acquire()) else {
            return failed();
        };
        // Absolute: no search list is for this name.
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        match tokio::time::timeout(PATIENCE, resolver.lookup(absolute, kind)).await {
            Ok(Ok(found)) => Reply { answers: as_asked(name, found.answers()), ..Reply::code(ResponseCode::NoError) },
            Ok(Err(error)) if error.is_no_records_found() => {
                let code = if error.is_nx_domain() { ResponseCode::NXDomain } else { ResponseCode::NoError };
                let soa = error.into_soa().map(|soa| soa.into_record_of_rdata());
                Reply { authority: soa.into_iter().collect(), ..Reply::code(code) }
            }
            Ok(Err(error)) => {
                tracing::debug!(%name, error = &error as &dyn std::error::Error, "forwarding a query failed");
                failed()
            }
            Err(_) => {
                tracing::debug!(%name, "nobody answered a forwarded query");
                failed()
            }
        }
    }
}

/// The records, their owner spelled as the client spelled the question.
fn as_asked(name: &Name, records: &[Record]) -> Vec<Record> {
    let mut records = records.to_vec();
    for record in &mut records {
        if record.name == *name {
            record.name = name.clone();
        }
    }
    records
}

/// `None` for no servers.
fn resolver(servers: &[SocketAddr]) -> Option<TokioResolver> {
    if servers.is_empty() {
        return None;
    }
    let server = |server: &SocketAddr| {
        let [mut udp, mut tcp] = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
        (udp.port, tcp.port) = (server.port(), server.port());
        NameServerConfig::new(server.ip(), true, vec![udp, tcp])
    };
    let together = servers.len().clamp(1, TOGETHER);
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = SILENCE;
    options.attempts = 1;
    options.num_concurrent_reqs = together;
    options.edns0 = true;
    options.cache_size = REMEMBERED;
    options.positive_max_ttl = Some(REMEMBERED_FOR);
    options.negative_max_ttl = Some(NO_REMEMBERED_FOR);
    // The host's own file is not for pods.
    options.use_hosts_file = ResolveHosts::Never;
    let built = builder.build();
    built.inspect_err(|error| tracing::warn!(error = error as &dyn std::error::Error, "no resolver")).ok()
}
