//! The table `inet towpath-policy`: who may talk to whom, in the kernel of a node.
//!
//! ```text
//! Bundle, Leases --Program::of------> Change --\
//! Delta, LeaseChanges --advance-----> Change ---+--> transactions --> kernel
//! kernel --dump--> what differs ----> repair --/
//! ```
//!
//! A change is one transaction, as long as that is short. What is longer is cut where no packet sees it: what is new goes in
//! before anything leads to it, and what is old goes out behind that. A transaction is short, so that what else the
//! processor has to do waits for less than a millisecond.

mod apart;
mod cut;
mod encode;
mod events;
mod latch;
mod mend;
mod read;
mod repair;
mod write;

use std::net::IpAddr;

use thiserror::Error;
use towpath_net::policy::bind::{LeaseChanges, Leases, View};
use towpath_net::policy::bundle::{Bundle, Delta};
use towpath_net::policy::change::Misfit;
use towpath_net::policy::objects::{Object, TABLE, Way};
use towpath_net::policy::program::{self, Program};
use towpath_net::policy::settings::LogDenied;
use towpath_net::policy::skeleton::inner_chains;

use crate::netlink::{self, Operation, Protocol, Refusal, Socket};
use crate::nft::numbers::{FAMILY_HEADER, message};
use crate::nft::request;
use cut::Ended;
use encode::Writer;

pub use cut::AnswersEnded;
pub use events::Events;
pub use read::{Count, RuleCount};
pub use repair::Repair;

/// What went wrong with the table of policies.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel refused something, or could not be asked. What it has is not known: [`PolicyTable::repair`] finds out.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// The bundle does not say what the kernel should have.
    #[error(transparent)]
    Program(#[from] program::Error),
    /// The change does not fit the bundle.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The table changed each time that it was read.
    #[error("the table inet {TABLE} changed each of the {0} times that it was read")]
    Unsteady(usize),
    /// What the kernel has is not known.
    #[error("what the table inet {TABLE} has is not known: load or repair it")]
    Unknown,
}

/// What becomes of new connections of pods while a table is made. Afterwards only the table lets any begin: the latch
/// ([`towpath_net::policy::latch`]) is shut, whatever becomes of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meanwhile {
    /// None begins: policies were in force before. So it is where there is a table already.
    Closed,
    /// All begin: policies were not in force before.
    Open,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// How many transactions.
    pub transactions: usize,
    /// How many elements, chains, rules and sets came or went.
    pub operations: usize,
    /// How many bytes went to the kernel.
    pub bytes: usize,
    /// How many operations the largest transaction had.
    pub largest: usize,
}

/// What a message is about, for errors.
#[derive(Clone, Copy, Debug)]
enum About {
    Table,
    Latch,
    Part(&'static str),
    Object(Object),
    Pod(IpAddr),
}

/// The table of the network namespace that it was opened in.
pub struct PolicyTable {
    socket: Socket,
    writer: Writer<About>,
    program: Option<Program>,
    log: LogDenied,
    ended: Ended,
    written: Written,
}

impl PolicyTable {
    /// Opens the table of the current network namespace. It need not exist; what it has is not known yet.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(Protocol::Netfilter)?;
        Ok(Self {
            socket,
            writer: Writer::new(),
            program: None,
            log: LogDenied::None,
            ended: Ended::default(),
            written: Written::default(),
        })
    }

    /// The number by which the kernel knows the socket: events name that of whoever made the change.
    pub fn port(&self) -> Result<u32, Error> {
        Ok(self.socket.port()?)
    }

    /// Whether there is a table.
    pub fn exists(&mut self) -> Result<bool, Error> {
        Ok(self.flags(TABLE)?.is_some())
    }

    /// The flags of a table (`NFTA_TABLE_FLAGS`); nothing where there is no such table.
    fn flags(&mut self, table: &str) -> Result<Option<u32>, Error> {
        let request = request(message::GET_TABLE, |a| _ = a.put_text(1, table));
        match self.socket.get(&request).map_err(|cause| netlink::Error::new(Operation::List, "table", cause)) {
            Ok(answer) => {
                let flags = answer.and_then(|answer| answer.content(FAMILY_HEADER.len()).number_be(2));
                Ok(Some(flags.unwrap_or_default()))
            }
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What the kernel has, where that is known.
    pub const fn program(&self) -> Option<&Program> {
        self.program.as_ref()
    }

    /// Makes the table anew, whatever there is. There is no table afterwards where the bundle is not enforced.
    pub fn load(&mut self, bundle: &Bundle, leases: &Leases, meanwhile: Meanwhile) -> Result<Written, Error> {
        self.program = None;
        let (program, change) = Program::of(bundle, leases)?;
        if !bundle.is_enforced {
            let written = self.remove()?;
            // Changes go on from it: they may bring policies into force.
            self.program = Some(program);
            return Ok(written);
        }
        let view = View { before: bundle, delta: &Delta::default() };
        let closed = meanwhile == Meanwhile::Closed || self.exists()?;
        self.attempt(|table| table.make_table(view, &program, &change, closed))?;
        self.program = Some(program);
        Ok(self.take_written())
    }

    /// Goes on from a bundle to what a delta makes of it, and from leases to later ones. The kernel must have `before`, as it
    /// does after [`Self::load`], [`Self::repair`] and all changes since. After an error it is not known what the kernel
    /// has.
    pub fn change(&mut self, before: &Bundle, delta: &Delta, leases: &LeaseChanges) -> Result<Written, Error> {
        let mut program = self.program.take().ok_or(Error::Unknown)?;
        if delta.is_enforced.is_some_and(|after| after != before.is_enforced) {
            return self.switch(before, delta, leases, &program);
        }
        let view = View { before, delta };
        let change = program.advance(view, leases)?;
        if before.is_enforced {
            self.attempt(|table| table.write_change(view, &program, &change))?;
        }
        self.program = Some(program);
        Ok(self.take_written())
    }

    /// From now on the kernel tells of packets that are denied, or does not: see [`crate::nflog`]. In one transaction: no packet
    /// meets a table without its rules. It begins without. What the kernel has is not known after an error.
    pub fn log(&mut self, log: LogDenied) -> Result<Written, Error> {
        let before = std::mem::replace(&mut self.log, log);
        // Where it is not known what the kernel has, whoever finds out sees to it.
        if before == log || self.program.is_none() || !self.exists()? {
            return Ok(Written::default());
        }
        let program = self.program.take();
        let changed = inner_chains(before).into_iter().zip(inner_chains(log)).filter(|(before, after)| before != after);
        self.attempt(|table| {
            for (_, (name, chain)) in changed {
                table.writer.flush_chain(About::Part(name), name);
                for rule in &chain.rules {
                    table.writer.rule(About::Part(name), name, rule);
                }
            }
            table.commit()
        })?;
        self.program = program;
        Ok(self.take_written())
    }

    /// Removes the table; nothing happens where there is none. What the kernel should have is not known afterwards.
    pub fn remove(&mut self) -> Result<Written, Error> {
        self.program = None;
        self.attempt(|table| {
            table.open_latch()?;
            table.take_apart()?;
            table.writer.new_table(About::Table);
            table.writer.delete_table(About::Table);
            table.commit()
        })?;
        Ok(self.take_written())
    }

    /// Takes from addresses whatever pods that had them could do: until somebody says who has them now, nothing passes. What
    /// is not there, or the whole table, is no error. What the kernel should have is not known afterwards.
    pub fn forget(&mut self, addresses: &[IpAddr]) -> Result<(), Error> {
        self.program = None;
        for address in addresses {
            for way in Way::ALL {
                let taken = self.attempt(|table| table.unmap(way, *address));
                match taken {
                    Err(Error::Netlink(error)) if error.is_missing() => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// Runs what writes; where it fails nothing is left for the next one.
    fn attempt(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        self.written = Written::default();
        let result = work(self);
        if result.is_err() {
            self.writer = Writer::new();
        }
        result
    }

    fn take_written(&mut self) -> Written {
        std::mem::take(&mut self.written)
    }

    fn commit(&mut self) -> Result<(), Error> {
        if self.writer.batch.messages() == 0 {
            return Ok(());
        }
        let operations = self.writer.operations();
        self.written.transactions += 1;
        self.written.operations += operations;
        self.written.bytes += self.writer.batch.length();
        self.written.largest = self.written.largest.max(operations);
        let sent = self.socket.commit_batch(&mut self.writer.batch);
        let sent = sent.map_err(|Refusal { step, cause }| {
            let about = step.and_then(|step| self.writer.about(step));
            netlink::Error::new(Operation::Change, about.unwrap_or(About::Table).to_string(), cause)
        });
        self.writer.clear();
        Ok(sent?)
    }
}
