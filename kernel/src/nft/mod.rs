//! The table `inet towpath` over netlink, in process.
//!
//! ```text
//! towpath_net::nft::Table --encode--> one transaction --> kernel --dump, decode--> towpath_net::nft::Table
//! ```

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod numbers;

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;
use towpath_net::lease::Lease;
use towpath_net::nft::{Element, Set, Table};
use towpath_net::render::{TABLE, hostport_elements};

use crate::netlink::attributes::Attributes;
use crate::netlink::{self, Content, Message, Operation, Protocol, Refusal, Socket, Step};
use encode::Encoder;
use numbers::message;

/// How often a list that changed while it was read is read again.
const DUMP_ATTEMPTS: usize = 10;

/// What went wrong with nftables, and with which object.
#[derive(Debug, Error)]
pub enum NftError {
    /// The kernel refused something, or could not be asked.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
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
}

impl Nft {
    /// Opens the table of the current network namespace. It need not exist.
    pub fn open() -> Result<Self, NftError> {
        Ok(Self { socket: Socket::open(Protocol::Netfilter)? })
    }

    /// The number by which the kernel knows the socket.
    pub fn port(&self) -> Result<u32, NftError> {
        Ok(self.socket.port()?)
    }

    /// How many transactions were sent.
    pub const fn writes(&self) -> u64 {
        self.socket.writes()
    }

    /// Makes the table anew in one transaction: there is no moment without it.
    pub fn replace(&mut self, table: &Table) -> Result<(), NftError> {
        let mut encoder = Encoder::default();
        // Deleting needs something to delete.
        encoder.new_table();
        encoder.delete_table();
        encoder.new_table();
        encoder.fill(table);
        self.commit(encoder.finish())
    }

    /// Removes the table; nothing happens where there is none.
    pub fn delete(&mut self) -> Result<(), NftError> {
        let mut encoder = Encoder::default();
        encoder.new_table();
        encoder.delete_table();
        self.commit(encoder.finish())
    }

    /// Adds the elements of a lease's host ports; what is there already is no error.
    pub fn open_ports(&mut self, lease: &Lease) -> Result<(), NftError> {
        let elements = hostport_elements(lease);
        self.change(elements.iter().map(|(set, element)| (*set, std::slice::from_ref(element), &[][..])))
    }

    /// Removes the elements of a lease's host ports; what is gone already, or the whole table, is no error.
    pub fn close_ports(&mut self, lease: &Lease) -> Result<(), NftError> {
        let elements = hostport_elements(lease);
        let nothing: &[Element] = &[];
        match self.change(elements.iter().map(|(set, element)| (*set, nothing, std::slice::from_ref(element)))) {
            // One that is gone keeps the others from being removed: each for itself, then.
            Err(error) if error.is_missing() => {}
            other => return other,
        }
        for (set, element) in &elements {
            match self.change([(*set, nothing, std::slice::from_ref(element))]) {
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
        let mut encoder = Encoder::default();
        for (name, add, remove) in changes {
            encoder.elements(message::DELETE_ELEMENT, name, remove.iter());
            encoder.elements(message::NEW_ELEMENT, name, add.iter());
        }
        self.commit(encoder.finish())
    }

    fn commit(&mut self, (steps, what): (Vec<Step>, Vec<String>)) -> Result<(), NftError> {
        if steps.is_empty() {
            return Ok(());
        }
        self.socket.commit(numbers::NFTABLES, &steps).map_err(|Refusal { step, cause }| {
            let object = step.and_then(|step| what.get(step));
            let object = object.map_or_else(|| format!("table inet {TABLE}"), Clone::clone);
            let error = netlink::Error::new(Operation::Change, object, cause);
            match step.and_then(|step| added_to(&steps.get(step)?.message)) {
                // What is to be there already cannot be missing, but for the set.
                Some(set) if error.is_missing() => NftError::NoSet(set),
                _ => error.into(),
            }
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
                // A set went between the list of sets and that of its elements.
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        Err(NftError::Unsteady)
    }

    fn read_once(&mut self, flags: u32) -> Result<Table, NftError> {
        let mut sets = self.sets()?;
        for (name, set) in &mut sets {
            set.elements = self.elements(name, set)?;
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

    fn elements(&mut self, name: &str, set: &Set) -> Result<BTreeSet<Element>, NftError> {
        let request = request(message::GET_ELEMENT, |a| {
            a.put_text(1, TABLE).put_text(2, name);
        });
        let parts = self.socket.dump_with(&request, |answer| Some(decode::part(set, content(answer))));
        let parts = parts.map_err(|cause| netlink::Error::new(Operation::List, format!("set {name}"), cause))?;
        Ok(decode::elements(set, parts))
    }

    /// Everything of one kind in this table, whose name is the first attribute of chains, rules and sets alike.
    fn list<T>(
        &mut self,
        kind: u16,
        object: &'static str,
        decode: impl Fn(Content<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NftError> {
        let answers = self.socket.dump(&request(kind, |a| _ = a.put_text(1, TABLE)));
        let answers = answers.map_err(|cause| netlink::Error::new(Operation::List, object, cause))?;
        let ours = answers.iter().filter(|answer| answer.body.first() == Some(&numbers::INET));
        let ours = ours.map(content).filter(|content| content.text(1).as_deref() == Some(TABLE));
        Ok(ours.filter_map(decode).collect())
    }

    /// Whether the table is there.
    pub fn exists(&mut self) -> Result<bool, NftError> {
        Ok(self.flags()?.is_some())
    }

    /// The table's flags (`NFTA_TABLE_FLAGS`); nothing where there is no table.
    fn flags(&mut self) -> Result<Option<u32>, NftError> {
        match self.ask(message::GET_TABLE, "table", |a| _ = a.put_text(1, TABLE)) {
            Ok(answer) => Ok(answer.map(|answer| content(&answer).number_be(2).unwrap_or_default())),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The number of the ruleset's last change (`NFTA_GEN_ID`).
    pub fn generation(&mut self) -> Result<u32, NftError> {
        let answer = self.ask(message::GET_GENERATION, "generation", |_| {})?;
        Ok(answer.and_then(|answer| content(&answer).number_be(1)).unwrap_or_default())
    }

    fn ask(
        &mut self,
        kind: u16,
        object: &'static str,
        fill: impl FnOnce(&mut Attributes),
    ) -> Result<Option<Message>, netlink::Error> {
        let answer = self.socket.get(&request(kind, fill));
        answer.map_err(|cause| netlink::Error::new(Operation::List, object, cause))
    }
}

/// The set that a message adds elements to.
fn added_to(message: &Message) -> Option<String> {
    (message.kind == numbers::SUBSYSTEM | message::NEW_ELEMENT).then(|| content(message).text(2))?
}

pub(crate) fn request(kind: u16, fill: impl FnOnce(&mut Attributes)) -> Message {
    let mut attributes = Attributes::after(&numbers::FAMILY_HEADER);
    fill(&mut attributes);
    Message { kind: numbers::SUBSYSTEM | kind, body: attributes.into_bytes() }
}

/// The attributes behind `struct nfgenmsg`.
fn content(message: &Message) -> Content<'_> {
    message.content(numbers::FAMILY_HEADER.len())
}

impl NftError {
    /// Whether something that was to be changed is not there.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Netlink(error) => error.is_missing(),
            Self::NoSet(_) => true,
            Self::Unsteady => false,
        }
    }
}

/// Whether a datagram of the multicast group tells of a change to Towpath's table: every message but that of a new
/// generation names its table first.
pub fn concerns(datagram: &[u8], table: &str) -> bool {
    let generation = numbers::SUBSYSTEM | message::NEW_GENERATION;
    netlink::messages(datagram).any(|m| m.kind != generation && content(&m).text(1).as_deref() == Some(table))
}
