//! What ADD returns (CNI specification, section 5, "Success"), in the shape of each version.

use serde_json::{Map, Value, json};
use towpath_kernel::link::Mac;
use towpath_net::Family;
use towpath_net::lease::Lease;

use crate::version::SpecVersion;

/// An interface of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Ethernet address.
    pub mac: Mac,
    /// In bytes.
    pub mtu: u32,
    /// The path of the namespace that it is in, as the runtime wrote it; nothing for the node's.
    pub sandbox: Option<&'a str>,
}

impl Interface<'_> {
    /// The interface as a version of the specification has it.
    pub fn document(&self, version: SpecVersion) -> Value {
        let mut document = json!({"name": self.name, "mac": self.mac.to_string()});
        if let Some(sandbox) = self.sandbox {
            document["sandbox"] = sandbox.into();
        }
        if version >= SpecVersion::V1_1_0 {
            document["mtu"] = self.mtu.into();
        }
        document
    }
}

/// An address of a result. `interface` is the place of its interface in the result's list.
pub fn address(version: SpecVersion, address: ipnet::IpNet, interface: usize) -> Value {
    let mut document = json!({"interface": interface, "address": address.to_string()});
    if version < SpecVersion::V1_0_0 {
        document["version"] = match Family::of_net(&address) {
            Family::V4 => "4",
            Family::V6 => "6",
        }
        .into();
    }
    document
}

/// The result for a lease, behind what plugins before returned.
pub fn of_lease(version: SpecVersion, previous: Option<&Value>, lease: &Lease) -> Value {
    let macs = lease.macs();
    let node = Interface { name: &lease.host_interface, mac: macs.node, mtu: lease.mtu, sandbox: None };
    let pod = Interface { name: &lease.interface, mac: macs.pod, mtu: lease.mtu, sandbox: Some(&lease.netns) };
    let mut result = Results::after(version, previous);
    let before = result.list("interfaces").len();
    result.list("interfaces").extend([node.document(version), pod.document(version)]);
    for leased in &lease.addresses {
        let mut document = address(version, leased.address, before + 1);
        document["gateway"] = leased.gateway.to_string().into();
        result.list("ips").push(document);
        let everything = Family::of(leased.gateway).everything().to_string();
        result.list("routes").push(json!({"dst": everything, "gw": leased.gateway.to_string()}));
    }
    result.finish()
}

/// A result in the making.
pub struct Results {
    document: Map<String, Value>,
    spare: Vec<Value>,
}

impl Results {
    /// Begins with what plugins before returned.
    pub fn after(version: SpecVersion, previous: Option<&Value>) -> Self {
        let mut document = previous.and_then(Value::as_object).cloned().unwrap_or_default();
        document.insert("cniVersion".to_owned(), version.text().into());
        Self { document, spare: Vec::new() }
    }

    /// One of its lists.
    pub fn list(&mut self, key: &str) -> &mut Vec<Value> {
        let value = self.document.entry(key).or_insert_with(|| Value::Array(Vec::new()));
        if !value.is_array() {
            *value = Value::Array(Vec::new());
        }
        value.as_array_mut().unwrap_or(&mut self.spare)
    }

    /// The finished document.
    pub fn finish(self) -> Value {
        Value::Object(self.document)
    }
}
