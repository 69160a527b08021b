//! The gateway: a process of the lab between the host and the cluster. No link joins the two.
//!
//! * It listens on a loopback port of the host and connects to the API server inside of the control plane's network
//!   namespace: a socket belongs to the namespace in which it was made, so it listens first and enters then.
//! * It keeps routes to the pods of every node in that namespace, over the node's address on the wire, so that the
//!   API server reaches pods as it would from a node.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tracing::{info, warn};

use crate::{
    address::Family,
    api::{self, ApiError},
    control_plane::API_PORT,
    run::{self, RunError},
};

/// Why the gateway cannot work.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The port of the host could not be used.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error("enter network namespace {path}: {source}", path = path.display())]
    Enter {
        /// The namespace.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The API server could not be asked.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A route could not be set.
    #[error(transparent)]
    Route(#[from] RunError),
    /// A connection could not be taken.
    #[error("accept a connection: {0}")]
    Accept(io::Error),
}

const PERIOD: Duration = Duration::from_secs(1);
/// Marks the gateway's routes (`rtm_protocol`, rtnetlink(7)); the lab's other routes are static ones.
const PROTOCOL: &str = "111";

/// Works until it is killed.
///
/// # Errors
/// When the port or the namespace cannot be had.
pub fn run(address: SocketAddr, namespace: &Path, kubeconfig: &Path) -> Result<(), GatewayError> {
    let listen = |source| GatewayError::Listen { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    enter(namespace).map_err(|source| GatewayError::Enter { path: namespace.to_owned(), source })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(listen)?;
    info!(%address, "Gateway ready");
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).map_err(listen)?;
        tokio::try_join!(forward(listener), keep_routes(kubeconfig)).map(drop)
    })
}

fn enter(namespace: &Path) -> io::Result<()> {
    let file = fs::File::open(namespace)?;
    Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
}

async fn forward(listener: TcpListener) -> Result<(), GatewayError> {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, API_PORT));
    loop {
        let (mut client, _) = listener.accept().await.map_err(GatewayError::Accept)?;
        tokio::spawn(async move {
            // A server that is not there, or an end that hangs up, is for the client to see: its connection closes.
            if let Ok(mut server) = TcpStream::connect(server).await {
                drop(copy_bidirectional(&mut client, &mut server).await);
            }
        });
    }
}

type Routes = BTreeMap<IpNet, IpAddr>;

async fn keep_routes(kubeconfig: &Path) -> Result<(), GatewayError> {
    let client = api::client(kubeconfig).await?;
    flush();
    let mut present = Routes::new();
    loop {
        // While the server is away, what was known stays.
        if let Ok(wanted) = wanted(&client).await {
            if let Err(error) = apply(&present, &wanted) {
                warn!(%error, "Pod routes not set");
            } else {
                present = wanted;
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn wanted(client: &Client) -> Result<Routes, kube::Error> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let networks = node_networks(client).await?;
    let routes = nodes.iter().flat_map(|node| {
        let addresses = addresses(node);
        let own = node.spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten().cloned());
        let towpath = networks.get(&node.name_any()).into_iter().flatten().cloned();
        let cidrs = own.chain(towpath).filter_map(|cidr| cidr.parse::<IpNet>().ok()).collect::<Vec<_>>();
        let route = move |cidr: IpNet| {
            let via = addresses.iter().find(|address| Family::of(**address) == Family::of(cidr.addr()));
            via.map(|via| (cidr.trunc(), *via))
        };
        cidrs.into_iter().filter_map(route)
    });
    Ok(routes.collect())
}

fn addresses(node: &Node) -> Vec<IpAddr> {
    let all = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = all.filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok()).collect()
}

/// The pod CIDRs that Towpath gave each node; none before it is installed.
async fn node_networks(client: &Client) -> Result<BTreeMap<String, Vec<String>>, kube::Error> {
    let kind = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("towpath.dev", "v1alpha1", "NodeNetwork"),
        "nodenetworks",
    );
    let listed = Api::<DynamicObject>::all_with(client.clone(), &kind).list(&ListParams::default()).await;
    let list = match listed {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(BTreeMap::new()),
        other => other?,
    };
    let cidrs = |object: &DynamicObject| {
        let cidrs = object.data["spec"]["podCIDRs"].as_array().into_iter().flatten();
        cidrs.filter_map(|cidr| cidr.as_str().map(str::to_owned)).collect()
    };
    Ok(list.iter().map(|object| (object.name_any(), cidrs(object))).collect())
}

/// Routes of a gateway that was killed; there being none is an error to `ip` for IPv6 and means nothing.
fn flush() {
    for family in ["-4", "-6"] {
        drop(run::output(Command::new("ip").args([family, "route", "flush", "proto", PROTOCOL])));
    }
}

/// The lines of `ip -batch` that lead from one set of routes to another, removals first.
fn changes(present: &Routes, wanted: &Routes) -> Vec<String> {
    let gone = present.keys().filter(|cidr| !wanted.contains_key(cidr));
    let mut lines: Vec<String> = gone.map(|cidr| format!("route del {cidr} proto {PROTOCOL}")).collect();
    let changed = wanted.iter().filter(|(cidr, via)| present.get(cidr) != Some(via));
    lines.extend(changed.map(|(cidr, via)| format!("route replace {cidr} via {via} proto {PROTOCOL}")));
    lines
}

fn apply(present: &Routes, wanted: &Routes) -> Result<(), RunError> {
    let lines = changes(present, wanted);
    if lines.is_empty() {
        return Ok(());
    }
    run::run_with_input(Command::new("ip").args(["-force", "-batch", "-"]), &(lines.join("\n") + "\n"))?;
    info!(routes = wanted.len(), "Pod routes changed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(list: &[(&str, &str)]) -> Routes {
        list.iter().map(|(cidr, via)| (cidr.parse().unwrap(), via.parse().unwrap())).collect()
    }

    #[test]
    fn only_what_differs_is_changed_and_what_is_gone_goes_first() {
        let present = routes(&[("10.244.0.0/24", "172.30.0.11"), ("10.244.1.0/24", "172.30.0.12")]);
        let wanted = routes(&[("10.244.1.0/24", "172.30.0.76"), ("fd00:10:244::/64", "fd00:172:30::b")]);
        assert_eq!(
            changes(&present, &wanted),
            [
                "route del 10.244.0.0/24 proto 111",
                "route replace 10.244.1.0/24 via 172.30.0.76 proto 111",
                "route replace fd00:10:244::/64 via fd00:172:30::b proto 111",
            ]
        );
        assert!(changes(&wanted, &wanted).is_empty());
    }
}
