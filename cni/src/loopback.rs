//! The loopback plugin: containerd before 2.1 calls one, by this name, for every pod.

use ipnet::IpNet;
use serde_json::Value;
use towpath_kernel::link::{self, Change, Link, Mac};
use towpath_kernel::netlink::{self, Protocol, Socket};
use towpath_kernel::netns::Namespace;

use crate::add::enter;
use crate::check::{Mismatch, Side};
use crate::config::Config;
use crate::environment::{Command, Place};
use crate::error::Error;
use crate::result::{Interface, Results, address};
use crate::version::SpecVersion;

/// The addresses that the kernel gives a loopback that is up.
const ADDRESSES: [&str; 2] = ["127.0.0.1/8", "::1/128"];

/// Answers a call of the loopback plugin. It keeps nothing, so there is nothing to collect or to delete: the loopback
/// goes with its namespace.
pub fn answer(command: &Command, config: &Config) -> Result<Option<Value>, Error> {
    match command {
        Command::Add(place) => add(place, config).map(Some),
        Command::Check(place) => check(place).map(|()| None),
        Command::Delete { .. } | Command::CollectGarbage | Command::Status => Ok(None),
    }
}

fn add(place: &Place, config: &Config) -> Result<Value, Error> {
    let (mut pod, link) = open(&enter(place)?)?;
    let link = link.ok_or_else(|| missing(place))?;
    link::change(&mut pod, link.index, Change { up: Some(true), ..Change::default() })?;
    Ok(result(config.version, config.previous.as_ref(), place, &link))
}

fn check(place: &Place) -> Result<(), Error> {
    match open(&enter(place)?)? {
        (_, Some(link)) if link.up => Ok(()),
        (_, Some(link)) => Err(Error::Mismatch(vec![Mismatch::LinkDown(Side::Pod, link.name)])),
        (_, None) => Err(missing(place)),
    }
}

/// The loopback of a namespace, whatever `CNI_IFNAME` says: there is only one.
fn open(namespace: &Namespace) -> Result<(Socket, Option<Link>), Error> {
    let mut pod = namespace.socket(Protocol::Route)??;
    let links: Result<Vec<Link>, netlink::Error> = link::list(&mut pod);
    let loopback = links?.into_iter().find(|link| link.loopback);
    Ok((pod, loopback))
}

fn missing(place: &Place) -> Error {
    Error::Mismatch(vec![Mismatch::LinkMissing(Side::Pod, place.attachment.interface.clone())])
}

fn result(version: SpecVersion, previous: Option<&Value>, place: &Place, link: &Link) -> Value {
    let mut result = Results::after(version, previous);
    let index = result.list("interfaces").len();
    let interface = Interface {
        name: &link.name,
        mac: link.mac.unwrap_or(Mac([0; 6])),
        mtu: link.mtu,
        sandbox: Some(&place.netns),
    };
    result.list("interfaces").push(interface.document(version));
    let addresses = ADDRESSES.iter().filter_map(|text| text.parse::<IpNet>().ok());
    let documents: Vec<Value> = addresses.map(|net| address(version, net, index)).collect();
    result.list("ips").extend(documents);
    result.finish()
}
