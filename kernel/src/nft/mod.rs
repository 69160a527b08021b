//! The table `inet towpath` over netlink, in process, and `bridge towpath` with it where the node has a bridge.
//!
//! ```text
//! towpath_net::nft::Table --encode--> one transaction --> kernel --dump, decode--> towpath_net::nft::Table
//! ```

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod numbers;

use std::collections::BTreeSet;

use thiserror::Error;
use towpath_net::lease::Lease;
use towpath_net::nft::{Element, Home, Set, Table};
use towpath_net::render::{TABLE, hostport_elements, lease_elements, sender_elements};

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
        let mut encoder = self.without_tables()?;
        encoder.new_table(Home::Inet);
        if table.has(Home::Bridge) {
            encoder.new_table(Home::Bridge);
        }
        encoder.fill(table);
        self.commit(encoder.finish())
    }

    /// Removes the table; nothing happens where there is none.
    pub fn delete(&mut self) -> Result<(), NftError> {
        let encoder = self.without_tables()?;
        self.commit(encoder.finish())
    }

    fn without_tables(&mut self) -> Result<Encoder, NftError> {
        let mut encoder = Encoder::default();
        // Deleting needs something to delete.
        encoder.new_table(Home::Inet);
        encoder.delete_table(Home::Inet);
        // Not every kernel has tables of this family.
        if self.flags(Home::Bridge)?.is_some() {
            encoder.delete_table(Home::Bridge);
        }
        Ok(encoder)
    }

    /// Lets the packets of a pod pass, and opens its host ports; what is there already is no error. Where there is no table,
    /// or that of an agent that lets everybody's pass, there is nothing to be done for a pod without host ports.
    pub fn admit(&mut self, lease: &Lease) -> Result<(), NftError> {
        match self.add(&lease_elements(lease)) {
            Err(error) if error.is_missing() => {}
            other => return other,
        }
        // One set that is not there kept all others from having theirs. Without the set there is no rule either.
        for element in sender_elements(lease) {
            match self.add(&[element]) {
                Err(error) if error.is_missing() => {}
                other => other?,
            }
        }
        self.add(&hostport_elements(lease))
    }

    fn add(&mut self, elements: &[(&'static str, Element)]) -> Result<(), NftError> {
        self.change(elements.iter().map(|(set, element)| (*set, std::slice::from_ref(element), &[][..])))
    }

    /// Undoes [`Self::admit`]; what is gone already, or the whole table, is no error.
    pub fn dismiss(&mut self, lease: &Lease) -> Result<(), NftError> {
        let elements = lease_elements(lease);
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
            let Some(flags) = self.flags(Home::Inet)? else { return Ok(None) };
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

    /// Reads one set with its elements; nothing where there is no such set.
    pub fn read_set(&mut self, name: &str) -> Result<Option<Set>, NftError> {
        for home in [Home::Inet, Home::Bridge] {
            if self.flags(home)?.is_none() {
                continue;
            }
            let mut sets = self.list(home, message::GET_SET, "sets", decode::set)?.into_iter();
            if let Some((_, mut set)) = sets.find(|(found, _)| found == name) {
                set.elements = self.elements(home, name, &set)?;
                return Ok(Some(set));
            }
        }
        Ok(None)
    }

    fn read_once(&mut self, flags: u32) -> Result<Table, NftError> {
        let mut table = Table { flags, ..Table::default() };
        self.read_part(Home::Inet, &mut table)?;
        if let Some(flags) = self.flags(Home::Bridge)? {
            table.flags |= flags;
            self.read_part(Home::Bridge, &mut table)?;
        }
        Ok(table)
    }

    fn read_part(&mut self, home: Home, table: &mut Table) -> Result<(), NftError> {
        for (name, mut set) in self.list(home, message::GET_SET, "sets", decode::set)? {
            set.elements = self.elements(home, &name, &set)?;
            table.sets.insert(name, set);
        }
        table.chains.extend(self.list(home, message::GET_CHAIN, "chains", decode::chain)?);
        for (chain, rule) in self.list(home, message::GET_RULE, "rules", decode::rule)? {
            if let Some(chain) = table.chains.get_mut(&chain) {
                chain.rules.push(rule);
            }
        }
        Ok(())
    }

    fn elements(&mut self, home: Home, name: &str, set: &Set) -> Result<BTreeSet<Element>, NftError> {
        let request = request_in(home, message::GET_ELEMENT, |a| {
            a.put_text(1, TABLE).put_text(2, name);
        });
        let parts = self.socket.dump_with(&request, |answer| Some(decode::part(set, content(answer))));
        let parts = parts.map_err(|cause| netlink::Error::new(Operation::List, format!("set {name}"), cause))?;
        Ok(decode::elements(set, parts))
    }

    /// Everything of one kind in this table, whose name is the first attribute of chains, rules and sets alike.
    fn list<T>(
        &mut self,
        home: Home,
        kind: u16,
        object: &'static str,
        decode: impl Fn(Content<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NftError> {
        let answers = self.socket.dump(&request_in(home, kind, |a| _ = a.put_text(1, TABLE)));
        let answers = answers.map_err(|cause| netlink::Error::new(Operation::List, object, cause))?;
        let ours = answers.iter().filter(|answer| answer.body.first() == Some(&numbers::family_of(home)));
        let ours = ours.map(content).filter(|content| content.text(1).as_deref() == Some(TABLE));
        Ok(ours.filter_map(decode).collect())
    }

    /// Whether the table is there.
    pub fn exists(&mut self) -> Result<bool, NftError> {
        Ok(self.flags(Home::Inet)?.is_some())
    }

    /// The table's flags (`NFTA_TABLE_FLAGS`); nothing where there is no table.
    fn flags(&mut self, home: Home) -> Result<Option<u32>, NftError> {
        match self.ask(&request_in(home, message::GET_TABLE, |a| _ = a.put_text(1, TABLE)), "table") {
            Ok(answer) => Ok(answer.map(|answer| content(&answer).number_be(2).unwrap_or_default())),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The number of the ruleset's last change (`NFTA_GEN_ID`).
    pub fn generation(&mut self) -> Result<u32, NftError> {
        let answer = self.ask(&request(message::GET_GENERATION, |_| {}), "generation")?;
        Ok(answer.and_then(|answer| content(&answer).number_be(1)).unwrap_or_default())
    }

    fn ask(&mut self, request: &Message, object: &'static str) -> Result<Option<Message>, netlink::Error> {
        let answer = self.socket.get(request);
        answer.map_err(|cause| netlink::Error::new(Operation::List, object, cause))
    }
}

/// The set that a message adds elements to.
fn added_to(message: &Message) -> Option<String> {
    (message.kind == numbers::SUBSYSTEM | message::NEW_ELEMENT).then(|| content(message).text(2))?
}

pub(crate) fn request(kind: u16, fill: impl FnOnce(&mut Attributes)) -> Message {
    request_in(Home::Inet, kind, fill)
}

fn request_in(home: Home, kind: u16, fill: impl FnOnce(&mut Attributes)) -> Message {
    let mut attributes = Attributes::after(&[numbers::family_of(home), 0, 0, 0]);
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
