//! The table `inet towpath` over netlink, in process.
//!
//! ```text
//! towpath_net::nft::Table --encode--> one transaction --> kernel --dump, decode--> towpath_net::nft::Table
//! ```

mod decode;
mod encode;
mod numbers;
mod socket;
mod wire;

use std::collections::BTreeMap;
use std::io;

use thiserror::Error;
use towpath_net::lease::Lease;
use towpath_net::nft::{Element, Set, Table};
use towpath_net::render::{TABLE, hostport_elements};

use encode::Encoder;
use numbers::message;
use socket::Socket;

/// How often a list that changed while it was read is read again.
const DUMP_ATTEMPTS: usize = 10;

/// What went wrong with nftables, and with which object.
#[derive(Debug, Error)]
pub enum NftError {
    /// No socket of `NETLINK_NETFILTER` could be opened.
    #[error("cannot open a netfilter socket: {0}")]
    Open(#[source] io::Error),
    /// The kernel refused a transaction: nothing of it holds.
    #[error("the kernel refused {object}: {source}")]
    Refused {
        /// What it refused.
        object: String,
        /// Its word.
        source: io::Error,
    },
    /// The table could not be read.
    #[error("cannot read {object}: {source}")]
    Read {
        /// What could not be read.
        object: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// The table changed each time that it was read.
    #[error("the table inet {TABLE} changed {DUMP_ATTEMPTS} times while it was read")]
    Unsteady,
    /// A set that should be changed is not known.
    #[error("the table inet {TABLE} has no set {0}: is the agent running?")]
    NoSet(String),
}

/// The table `inet towpath` of one network namespace.
pub struct Nft {
    socket: Socket,
    table: String,
    writes: u64,
}

impl Nft {
    /// Opens the table of the current network namespace. It need not exist.
    pub fn open() -> Result<Self, NftError> {
        let socket = Socket::open().map_err(NftError::Open)?;
        Ok(Self { socket, table: TABLE.to_owned(), writes: 0 })
    }

    /// How many transactions were sent.
    pub const fn writes(&self) -> u64 {
        self.writes
    }

    /// Makes the table anew in one transaction: there is no moment without it.
    pub fn replace(&mut self, table: &Table) -> Result<(), NftError> {
        let mut encoder = Encoder::new(&self.table, 1);
        // Deleting needs something to delete.
        encoder.new_table();
        encoder.delete_table();
        encoder.new_table();
        encoder.fill(table);
        let finished = encoder.finish();
        self.commit(finished)
    }

    /// Removes the table; nothing happens where there is none.
    pub fn delete(&mut self) -> Result<(), NftError> {
        let mut encoder = Encoder::new(&self.table, 1);
        encoder.new_table();
        encoder.delete_table();
        let finished = encoder.finish();
        self.commit(finished)
    }

    /// Adds the elements of a lease's host ports; what is there already is no error.
    pub fn open_ports(&mut self, lease: &Lease) -> Result<(), NftError> {
        let elements = hostport_elements(lease);
        self.change(elements.iter().map(|(set, element)| (*set, std::slice::from_ref(element), &[][..])))
    }

    /// Removes the elements of a lease's host ports; what is gone already, or the whole table, is no error.
    pub fn close_ports(&mut self, lease: &Lease) -> Result<(), NftError> {
        for (set, element) in hostport_elements(lease) {
            match self.change([(set, &[][..], std::slice::from_ref(&element))]) {
                Err(error) if error.is_missing() => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Adds and removes elements of sets, in one transaction; those to be removed must be there.
    pub fn change<'e>(
        &mut self,
        changes: impl IntoIterator<Item = (&'e str, &'e [Element], &'e [Element])>,
    ) -> Result<(), NftError> {
        let sets = match self.sets() {
            // Without a table there are no sets either.
            Err(NftError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            other => other?,
        };
        let table = self.table.clone();
        let mut encoder = Encoder::new(&table, 1);
        for (name, add, remove) in changes {
            let set = sets.get(name).ok_or_else(|| NftError::NoSet(name.to_owned()))?;
            encoder.elements(message::DELETE_ELEMENT, name, set, remove.iter());
            encoder.elements(message::NEW_ELEMENT, name, set, add.iter());
        }
        self.commit(encoder.finish())
    }

    fn commit(&mut self, (bytes, what): (Vec<u8>, Vec<String>)) -> Result<(), NftError> {
        if what.is_empty() {
            return Ok(());
        }
        self.writes += 1;
        self.socket.commit(&bytes).map_err(|refusal| {
            let object = refusal.index.and_then(|index| what.get(index));
            let object = object.map_or_else(|| format!("a transaction on table inet {TABLE}"), Clone::clone);
            NftError::Refused { object, source: refusal.error }
        })
    }

    /// Reads the table as it is; nothing where there is none.
    pub fn read(&mut self) -> Result<Option<Table>, NftError> {
        for _ in 0..DUMP_ATTEMPTS {
            let before = self.generation()?;
            let Some(flags) = self.flags()? else { return Ok(None) };
            match self.read_once(flags) {
                Ok(table) if self.generation()? == before => return Ok(Some(table)),
                Ok(_) => {}
                Err(NftError::Read { source, .. }) if changed_meanwhile(&source) => {}
                Err(error) => return Err(error),
            }
        }
        Err(NftError::Unsteady)
    }

    fn read_once(&mut self, flags: u32) -> Result<Table, NftError> {
        let mut sets = self.sets()?;
        for (name, set) in &mut sets {
            set.elements = self.elements(name, set)?.into_iter().collect();
        }
        let mut chains =
            self.list(message::GET_CHAIN, "chains", decode::chain)?.into_iter().collect::<BTreeMap<_, _>>();
        for (chain, rule) in self.list(message::GET_RULE, "rules", decode::rule)? {
            if let Some(chain) = chains.get_mut(&chain) {
                chain.rules.push(rule);
            }
        }
        Ok(Table { flags, sets, chains })
    }

    fn sets(&mut self) -> Result<BTreeMap<String, Set>, NftError> {
        Ok(self.list(message::GET_SET, "sets", decode::set)?.into_iter().collect())
    }

    fn elements(&mut self, name: &str, set: &Set) -> Result<Vec<Element>, NftError> {
        let table = self.table.clone();
        let mut raw = Vec::new();
        self.socket
            .dump(
                message::GET_ELEMENT,
                |w| {
                    w.string(1, &table);
                    w.string(2, name);
                },
                |m| raw.extend(decode::raw_elements(m.attributes())),
            )
            .map_err(|source| NftError::Read { object: "elements", source })?;
        Ok(decode::elements(set, &raw))
    }

    /// Everything of one kind in this table, whose name is the first attribute of chains, rules and sets alike.
    fn list<T>(
        &mut self,
        kind: u16,
        object: &'static str,
        decode: impl Fn(wire::Attributes<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NftError> {
        let table = self.table.clone();
        let mut found = Vec::new();
        self.socket
            .dump(
                kind,
                |w| w.string(1, &table),
                |m| {
                    let attributes = m.attributes();
                    if m.family() == numbers::INET && attributes.string(1) == Some(&table) {
                        found.extend(decode(attributes));
                    }
                },
            )
            .map_err(|source| NftError::Read { object, source })?;
        Ok(found)
    }

    /// The table's flags (`NFTA_TABLE_FLAGS`); nothing where there is no table.
    fn flags(&mut self) -> Result<Option<u32>, NftError> {
        let table = self.table.clone();
        let read = |m: wire::Message<'_>| Some(m.attributes().u32(2).unwrap_or_default());
        match self.socket.get(message::GET_TABLE, |w| w.string(1, &table), read) {
            Ok(flags) => Ok(flags),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(NftError::Read { object: "table", source }),
        }
    }

    /// The number of the ruleset's last change (`NFTA_GEN_ID`).
    pub fn generation(&mut self) -> Result<u32, NftError> {
        self.socket
            .get(message::GET_GENERATION, |_| {}, |m| m.attributes().u32(1))
            .map(Option::unwrap_or_default)
            .map_err(|source| NftError::Read { object: "generation", source })
    }
}

impl NftError {
    /// Whether something that was to be changed is not there.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Refused { source, .. } | Self::Read { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::NoSet(_) => true,
            Self::Open(_) | Self::Unsteady => false,
        }
    }
}

/// Whether a datagram of the multicast group tells of a change to Towpath's table: every message but that of a new
/// generation names its table first.
pub fn concerns(datagram: &[u8]) -> bool {
    let generation = numbers::SUBSYSTEM | message::NEW_GENERATION;
    wire::messages(datagram).any(|m| m.kind != generation && m.attributes().string(1) == Some(TABLE))
}

/// The list, or something that it belongs to, changed or went while it was read.
fn changed_meanwhile(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::NotFound)
}
