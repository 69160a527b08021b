//! Claims: other names of a lease's record, by what it holds, so that nobody has to read other leases to see what is
//! taken.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use towpath_net::lease::{AttachmentId, HostPort, Lease};

use super::error::{Error, Holder};
use super::{Store, names, read};
use crate::fs::{Error as FileError, Operation};

/// The name of a port's claim that no address of the node is named for.
const ANY: &str = "any";

impl Store {
    pub(super) fn claims(&self) -> PathBuf {
        self.folder.join("addresses")
    }

    pub(super) fn ports(&self) -> PathBuf {
        self.folder.join("ports")
    }

    pub(super) fn claim(&self, address: IpAddr) -> PathBuf {
        self.claims().join(address.to_string())
    }

    fn port(&self, port: &HostPort) -> PathBuf {
        self.ports().join(format!("{:?}-{}", port.protocol, port.host_port).to_ascii_lowercase())
    }

    fn port_claim(&self, port: &HostPort) -> PathBuf {
        self.port(port).join(port.host_ip.map_or_else(|| ANY.to_owned(), |address| address.to_string()))
    }

    /// Who has an address; nobody where there is no claim.
    pub fn owner(&self, address: IpAddr) -> Option<Holder> {
        let claim = self.claim(address);
        claim.exists().then(|| holder(&claim))
    }

    /// Whether pods send to an address what is not in their subnet.
    pub(super) fn is_gateway(&self, address: IpAddr) -> bool {
        let mut leases = within(&self.claims()).unwrap_or_default().into_iter().filter_map(|claim| read(&claim));
        leases.any(|lease| lease.addresses.iter().any(|leased| leased.gateway == address))
    }

    /// Refuses ports of which another lease has one; looks at those ports alone.
    pub(super) fn refuse_taken_ports(&self, ports: &[HostPort]) -> Result<(), Error> {
        for port in ports {
            for name in names::list(&self.port(port))? {
                let other = HostPort { host_ip: name.to_str().and_then(|text| text.parse().ok()), ..port.clone() };
                if other.overlaps(port) {
                    let holder = holder(&self.port(port).join(name));
                    return Err(Error::PortTaken { port: port.clone(), holder });
                }
            }
        }
        Ok(())
    }

    /// Every claim of a lease, addresses first. Folders of ports are made on the way.
    pub(super) fn claims_of(&self, lease: &Lease) -> Result<Vec<PathBuf>, FileError> {
        for port in &lease.host_ports {
            make_folder(&self.port(port))?;
        }
        let addresses = lease.addresses.iter().map(|leased| self.claim(leased.address.addr()));
        Ok(addresses.chain(lease.host_ports.iter().map(|port| self.port_claim(port))).collect())
    }

    /// Whether a lease has a claim to a port that it names.
    pub(super) fn has_port(&self, lease: &Lease, port: &HostPort) -> bool {
        let claim = self.port_claim(port);
        claim.exists() && is_of(&claim, &lease.attachment())
    }

    /// Gives up the claims of a lease to ports.
    pub(super) fn unclaim_ports(&self, lease: &Lease) -> Result<(), FileError> {
        let attachment = lease.attachment();
        for port in &lease.host_ports {
            let claim = self.port_claim(port);
            if is_of(&claim, &attachment) {
                crate::fs::remove(&claim)?;
            }
        }
        self.leave_ports(lease);
        Ok(())
    }

    /// Removes the folders of a lease's ports, unless others have a port on another address.
    pub(super) fn leave_ports(&self, lease: &Lease) {
        lease.host_ports.iter().for_each(|port| _ = fs::remove_dir(self.port(port)));
    }

    /// Removes the folders of ports that nobody has. Only under the lock.
    pub(super) fn remove_free_ports(&self) -> Result<(), FileError> {
        for port in within(&self.ports())? {
            // Somebody has it.
            _ = fs::remove_dir(port);
        }
        Ok(())
    }

    /// Every claim that there is.
    pub(super) fn all_claims(&self) -> Result<Vec<PathBuf>, FileError> {
        let mut all = within(&self.claims())?;
        for port in within(&self.ports())? {
            all.extend(within(&port)?);
        }
        Ok(all)
    }

    /// What a lease was born as, which its claims tell where its record is damaged.
    pub(super) fn born_as(&self, attachment: &AttachmentId) -> Result<Option<Lease>, FileError> {
        let mut leases = within(&self.claims())?.into_iter().filter_map(|claim| read(&claim));
        Ok(leases.find(|lease| lease.attachment() == *attachment))
    }
}

/// Whether a claim is an attachment's; one that cannot be read is whoever's record says so.
pub(super) fn is_of(claim: &Path, attachment: &AttachmentId) -> bool {
    read(claim).is_none_or(|lease| lease.attachment() == *attachment)
}

/// Makes a folder that is for root alone, with those above it.
pub(super) fn make_folder(folder: &Path) -> Result<(), FileError> {
    fs::create_dir_all(folder).map_err(|source| FileError::new(Operation::Write, folder, source))
}

/// Links a file to other names, all of them or none.
pub(super) fn link_all(file: &Path, names: impl IntoIterator<Item = PathBuf>) -> Result<(), FileError> {
    let mut linked: Vec<PathBuf> = Vec::new();
    for name in names {
        if let Err(source) = fs::hard_link(file, &name) {
            linked.iter().rev().for_each(|path| _ = crate::fs::remove(path));
            return Err(FileError::new(Operation::Write, &name, source));
        }
        linked.push(name);
    }
    Ok(())
}

fn holder(claim: &Path) -> Holder {
    let lease = read(claim);
    let pod = lease.as_ref().and_then(|lease| lease.pod.clone());
    Holder {
        attachment: lease.map(|lease| lease.attachment()),
        pod: pod.map(|pod| if pod.namespace.is_empty() { pod.name } else { format!("{}/{}", pod.namespace, pod.name) }),
    }
}

fn within(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    match names::list(folder) {
        Ok(names) => Ok(names.into_iter().map(|name| folder.join(name)).collect()),
        // Not a folder: nothing of ours.
        Err(error) if error.source.kind() == io::ErrorKind::NotADirectory => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
