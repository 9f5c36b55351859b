//! Every way to reach a pod, from everywhere: which pod answers, and which source address it sees.
//!
//! The pods only hold their namespaces; what answers in them is the test's own, as is what asks.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use tests::{Cluster, Echo, Node, OUTSIDE_IP, OUTSIDE_IP6, Options, Place, Transport, eventually, must, run};

/// Where the echoes listen in their pods.
const PORT: u16 = 8080;
/// Of all Services.
const SERVICE_PORT: u16 = 80;
const POOL: &str = "172.31.7.200-172.31.7.203,fd31:7::200-fd31:7::203";

/// A pod, by what it is to a client on n1.
struct Backend {
    name: &'static str,
    node: &'static str,
    host_port: u16,
    external: [&'static str; 2],
}

const BACKENDS: [Backend; 3] = [
    Backend { name: "one", node: "n1", host_port: 18_001, external: ["203.0.113.1", "2001:db8:9::1"] },
    Backend { name: "two", node: "n1", host_port: 18_002, external: ["203.0.113.2", "2001:db8:9::2"] },
    Backend { name: "far", node: "n2", host_port: 18_003, external: ["203.0.113.3", "2001:db8:9::3"] },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// The pod `one`.
    Pod,
    /// n1.
    Node,
    Outside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ClusterIp,
    /// Of n1.
    NodePort,
    LoadBalancer,
    ExternalIp,
    /// By the name's own addresses.
    Headless,
    /// Of the pod's node.
    HostPort,
}

/// A question of the matrix, and who must be seen asking.
struct Cell {
    from: From,
    way: Way,
    backend: &'static Backend,
    transport: Transport,
    /// 0: IPv4, 1: IPv6.
    family: usize,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = ["IPv4", "IPv6"][self.family];
        write!(f, "{:?} by {:?} to {} over {:?} and {family}", self.from, self.way, self.backend.name, self.transport)
    }
}

/// Addresses of the cluster, each of both families.
struct World {
    nodes: BTreeMap<String, Node>,
    pods: BTreeMap<&'static str, Vec<IpAddr>>,
    cluster_ips: BTreeMap<&'static str, Vec<IpAddr>>,
    node_ports: BTreeMap<&'static str, BTreeMap<String, u16>>,
    balancers: BTreeMap<&'static str, Vec<IpAddr>>,
    headless: BTreeMap<&'static str, Vec<IpAddr>>,
    places: BTreeMap<&'static str, Place>,
    /// Whether sockets on n1 connect to endpoints at once.
    balanced: bool,
}

fn of_families(ips: &mut [IpAddr]) {
    ips.sort_by_key(IpAddr::is_ipv6);
}

fn ips(list: &serde_json::Value, field: &str) -> Result<Vec<IpAddr>> {
    let texts = list.as_array().into_iter().flatten();
    let text = |one: &serde_json::Value| one.as_str().or_else(|| one[field].as_str()).map(str::to_owned);
    let mut ips: Vec<IpAddr> =
        texts.map(|one| text(one).context("an address")?.parse().context("an address")).collect::<Result<_>>()?;
    of_families(&mut ips);
    Ok(ips)
}

fn pod(backend: &Backend) -> String {
    let Backend { name, node, host_port, .. } = backend;
    let ports: Vec<String> = ["TCP", "UDP", "SCTP"]
        .iter()
        .map(|protocol| format!("{{containerPort: {PORT}, hostPort: {host_port}, protocol: {protocol}}}"))
        .collect();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  nodeName: {node}\n  \
         terminationGracePeriodSeconds: 0\n  containers:\n  - {{name: hold, image: busybox, imagePullPolicy: IfNotPresent, \
         command: [sleep, infinity], ports: [{}]}}\n",
        ports.join(", ")
    )
}

fn services(backend: &Backend) -> String {
    let Backend { name, external, .. } = backend;
    let ports: Vec<String> = ["TCP", "UDP", "SCTP"]
        .iter()
        .map(|protocol| {
            let name = protocol.to_lowercase();
            format!("{{name: {name}, port: {SERVICE_PORT}, targetPort: {PORT}, protocol: {protocol}}}")
        })
        .collect();
    let ports = ports.join(", ");
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer, ipFamilyPolicy: \
         RequireDualStack, selector: {{app: {name}}}, externalIPs: [{}, \"{}\"], ports: [{ports}]}}\n---\napiVersion: \
         v1\nkind: Service\nmetadata: {{name: {name}-headless}}\nspec: {{clusterIP: None, ipFamilyPolicy: RequireDualStack, \
         selector: {{app: {name}}}, ports: [{ports}]}}\n",
        external[0], external[1]
    )
}

impl World {
    fn read(cluster: &Cluster, balanced: bool) -> Result<Self> {
        let nodes: BTreeMap<String, Node> =
            cluster.nodes()?.into_iter().map(|node| (node.name.clone(), node)).collect();
        let mut world = Self {
            nodes,
            pods: BTreeMap::new(),
            cluster_ips: BTreeMap::new(),
            node_ports: BTreeMap::new(),
            balancers: BTreeMap::new(),
            headless: BTreeMap::new(),
            places: BTreeMap::new(),
            balanced,
        };
        for Backend { name, .. } in &BACKENDS {
            world.pods.insert(name, cluster.pod_ips(name)?);
            let service = eventually("a load balancer's addresses", || {
                let service = cluster.object(&["service", name])?;
                let ingress = ips(&service["status"]["loadBalancer"]["ingress"], "ip")?;
                ensure!(ingress.len() == 2, "{ingress:?}");
                Ok(service)
            });
            world.balancers.insert(name, ips(&service["status"]["loadBalancer"]["ingress"], "ip")?);
            world.cluster_ips.insert(name, ips(&service["spec"]["clusterIPs"], "")?);
            let ports = service["spec"]["ports"].as_array().context("ports")?;
            let ports = ports.iter().map(|port| {
                let number = port["nodePort"].as_u64().and_then(|number| u16::try_from(number).ok());
                Ok((port["protocol"].as_str().context("a protocol")?.to_owned(), number.context("a node port")?))
            });
            world.node_ports.insert(name, ports.collect::<Result<_>>()?);
            world.places.insert(name, Place::pod(cluster, name)?);
        }
        for Backend { name, .. } in &BACKENDS {
            let found = eventually("a headless name's addresses", || {
                let mut found = Vec::new();
                for kind in ["A", "AAAA"] {
                    let question = format!("{name}-headless.default.svc.cluster.local");
                    let dig = || run("dig", &["+short", "+tries=1", "+time=2", "@10.43.0.10", &question, kind]);
                    let answer = world.places["one"].run(dig)?;
                    found.extend(answer.lines().filter_map(|line| line.parse::<IpAddr>().ok()));
                }
                ensure!(found.len() == 2, "{found:?}");
                Ok(found)
            });
            world.headless.insert(name, found);
        }
        Ok(world)
    }

    fn node_ip(&self, node: &str, family: usize) -> IpAddr {
        self.nodes[node].addresses[family]
    }

    fn target(&self, cell: &Cell) -> Result<SocketAddr> {
        let (name, family) = (cell.backend.name, cell.family);
        let protocol = format!("{:?}", cell.transport).to_uppercase();
        Ok(match cell.way {
            Way::ClusterIp => SocketAddr::new(self.cluster_ips[name][family], SERVICE_PORT),
            Way::NodePort => SocketAddr::new(self.node_ip("n1", family), self.node_ports[name][&protocol]),
            Way::LoadBalancer => SocketAddr::new(self.balancers[name][family], SERVICE_PORT),
            Way::ExternalIp => SocketAddr::new(cell.backend.external[family].parse()?, SERVICE_PORT),
            Way::Headless => SocketAddr::new(self.headless[name][family], PORT),
            Way::HostPort => SocketAddr::new(self.node_ip(cell.backend.node, family), cell.backend.host_port),
        })
    }

    /// The node that takes the packet up, where the client is outside.
    fn entry(&self, cell: &Cell) -> Result<String> {
        if cell.way == Way::HostPort {
            return Ok(cell.backend.node.to_owned());
        }
        if cell.way != Way::LoadBalancer {
            return Ok("n1".to_owned());
        }
        let address = self.balancers[cell.backend.name][cell.family].to_string();
        for (name, node) in &self.nodes {
            if !run("ip", &["-n", &node.namespace, "-o", "address", "show", "to", &address])?.is_empty() {
                return Ok(name.clone());
            }
        }
        anyhow::bail!("no node has {address}")
    }

    /// Whom the pod must see asking.
    fn seen(&self, cell: &Cell) -> Result<Vec<IpAddr>> {
        let (backend, family) = (cell.backend, cell.family);
        let n1 = self.node_ip("n1", family);
        Ok(match (cell.from, cell.way) {
            // A node's address is outside of the pods' network, whoever has it.
            (From::Pod, Way::HostPort) if backend.node != "n1" => vec![n1],
            (From::Pod, Way::Headless) => vec![self.pods["one"][family]],
            // Itself: nothing leaves the pod.
            (From::Pod, Way::ClusterIp | Way::LoadBalancer | Way::ExternalIp)
                if self.balanced && cell.transport == Transport::Tcp =>
            {
                vec![self.pods["one"][family]]
            }
            // Itself: the answer must leave the pod.
            (From::Pod, _) if backend.name == "one" => vec![n1],
            (From::Pod, _) => vec![self.pods["one"][family]],
            // Where the node itself has the address, that is what it asks with.
            (From::Node, Way::LoadBalancer) => vec![n1, self.balancers[backend.name][family]],
            (From::Node, _) => vec![n1],
            (From::Outside, Way::Headless) => vec![outside(family)],
            (From::Outside, _) => {
                let entry = self.entry(cell)?;
                vec![if entry == backend.node { outside(family) } else { self.node_ip(&entry, family) }]
            }
        })
    }
}

fn outside(family: usize) -> IpAddr {
    [OUTSIDE_IP, OUTSIDE_IP6][family].parse().expect("an address")
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for from in [From::Pod, From::Node, From::Outside] {
        for way in [Way::ClusterIp, Way::NodePort, Way::LoadBalancer, Way::ExternalIp, Way::Headless, Way::HostPort] {
            for backend in &BACKENDS {
                for transport in [Transport::Tcp, Transport::Udp, Transport::Sctp] {
                    cells.extend([0, 1].map(|family| Cell { from, way, backend, transport, family }));
                }
            }
        }
    }
    cells
}

/// The host outside reaches what is only known to the nodes through n1.
fn through_n1(cluster: &Cluster, world: &World) -> Result<()> {
    let ranges = [["10.42.0.0/16", "10.43.0.0/16", "203.0.113.0/24"], ["fd42::/56", "fd43::/112", "2001:db8:9::/64"]];
    let n1 = &world.nodes["n1"];
    for (family, ranges) in ranges.iter().enumerate() {
        for range in ranges {
            // The node's own host routes to it; its outside routes to that host.
            run(
                "ip",
                &["-n", &cluster.namespace.name, "route", "add", range, "via", &n1.addresses[family].to_string()],
            )?;
            let via = [tests::NODE_IP, tests::NODE_IP6][family];
            run("ip", &["-n", &cluster.namespace.outside, "route", "add", range, "via", via])?;
        }
    }
    Ok(())
}

#[test]
fn every_way_leads_to_its_pod_and_shows_the_right_source() {
    every_way("auto");
}

#[test]
fn every_way_leads_to_its_pod_where_all_is_translated() {
    every_way("off");
}

/// With `--socket-load-balancing` of n1, where the clients within the cluster are.
fn every_way(sockets: &str) {
    must((|| {
        let options = Options {
            nodes: 3,
            ip_family: Some("dual"),
            arguments: ["--load-balancer-pool", POOL, "--socket-load-balancing", sockets].map(String::from).into(),
            images: vec!["busybox"],
            ..Options::default()
        };
        let cluster = Cluster::start(options)?;
        let manifests: Vec<String> =
            BACKENDS.iter().map(|backend| format!("{}---\n{}", pod(backend), services(backend))).collect();
        cluster.apply(&manifests.join("---\n"))?;
        cluster.kubectl(&["wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s"])?.ok();
        cluster.routes("dev eth0", 4)?;
        let world = World::read(&cluster, sockets == "auto")?;
        through_n1(&cluster, &world)?;
        let _echoes: Vec<Echo> = BACKENDS
            .iter()
            .map(|backend| Echo::start(&world.places[backend.name], backend.name, PORT))
            .collect::<Result<_>>()?;
        let (node, outside) = (Place::of(&world.nodes["n1"])?, Place::outside(&cluster)?);
        let mut wrong = Vec::new();
        let cells = cells();
        for cell in &cells {
            let place = match cell.from {
                From::Pod => &world.places["one"],
                From::Node => &node,
                From::Outside => &outside,
            };
            let (target, seen) = (world.target(cell)?, world.seen(cell)?);
            match place.run(|| cell.transport.ask(target)) {
                Ok((name, source)) if name == cell.backend.name && seen.contains(&source) => {}
                Ok((name, source)) => wrong.push(format!("{cell}: {name} saw {source}, not {seen:?}")),
                Err(error) => wrong.push(format!("{cell}: {target}: {error:#}")),
            }
        }
        ensure!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), cells.len(), wrong.join("\n"));
        cluster.kubectl(&["delete", "pods", "--all", "--wait"])?.ok();
        for backend in &BACKENDS {
            let address = SocketAddr::new(world.node_ip(backend.node, 0), backend.host_port);
            eventually("a host port without its pod", || {
                let answer = outside.run(|| Transport::Tcp.ask(address));
                ensure!(answer.is_err(), "{answer:?}");
                Ok(())
            });
        }
        cluster.finish()
    })());
}
