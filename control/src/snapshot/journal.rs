//! What became of policies since a snapshot of them was written: who is killed goes on from what the kernel has, and from
//! nothing older.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use towpath_kernel::fs::{self, Operation};
use towpath_net::policy::bundle::{Bundle, Delta};
use tracing::warn;

use super::{Mark, wire};
use crate::malformed::Malformed;
use crate::message::undecodable;
use crate::update::Update;
use crate::wire::policy;

/// Begins every file: what it is, and of which version.
const MAGIC: &[u8] = b"towpath-changes-1\n";

/// Changes of a snapshot, in a file beside it: each is there as a whole, or not at all. They outlive whoever writes them, and
/// not a power cut.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// Which snapshot they belong to; nothing where there is none, or not all of its changes are there.
    of: Option<Mark>,
    file: Option<File>,
}

impl Journal {
    /// That of a snapshot's file. It takes nothing before it knows which snapshot that is.
    pub fn beside(snapshot: &Path) -> Self {
        Self { path: beside(snapshot), of: None, file: None }
    }

    /// A snapshot was written: what comes now belongs to it, and whatever came before is part of it, or was refused. That goes,
    /// for a snapshot that says the same as the one before has the same mark.
    ///
    /// # Errors
    ///
    /// Where it cannot be removed.
    pub fn begin(&mut self, of: Mark) -> Result<(), fs::Error> {
        (self.of, self.file) = (Some(of), None);
        fs::remove(&self.path)
    }

    /// Takes a change that is about to be brought about.
    ///
    /// # Errors
    ///
    /// Where it cannot be written. It takes nothing more then, until there is another snapshot.
    pub fn note(&mut self, change: &Delta) -> Result<(), fs::Error> {
        let Some(of) = self.of.filter(|_| !change.is_empty()) else { return Ok(()) };
        let written = self.append(of, &record(change));
        if written.is_err() {
            self.of = None;
        }
        written.map_err(|source| fs::Error::new(Operation::Write, &self.path, source))
    }

    /// In one write, so that nobody finds the beginning of a file that belongs to nothing.
    fn append(&mut self, of: Mark, record: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            return file.write_all(record);
        }
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&self.path)?;
        file.write_all(&[MAGIC, &of.0, record].concat())?;
        self.file = Some(file);
        Ok(())
    }
}

fn beside(snapshot: &Path) -> PathBuf {
    let mut name = snapshot.file_name().map(OsString::from).unwrap_or_default();
    name.push("-changes");
    snapshot.with_file_name(name)
}

/// Its length and its checksum, then what changed.
fn record(change: &Delta) -> Vec<u8> {
    let body = wire::Saved { policy: policy::write(change), ..wire::Saved::default() }.encode_to_vec();
    let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
    [length.to_be_bytes().as_slice(), Sha256::digest(&body).as_slice(), &body].concat()
}

/// Brings a bundle to where its changes lead.
pub(super) fn replay(snapshot: &Path, of: Mark, bundle: &mut Bundle) {
    let path = beside(snapshot);
    match fs::read_optional(&path) {
        Ok(Some(bytes)) => {
            // Those of an older one are part of this one.
            if let Some(records) = bytes.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(of.0.as_slice())) {
                take(records, bundle);
            }
        }
        Ok(None) => {}
        Err(error) => warn!(%error, "the last changes are not known"),
    }
}

/// Takes the changes one after the other. Behind one that is damaged, as the last is where its writer died, none counts.
fn take(mut records: &[u8], bundle: &mut Bundle) {
    while let Some((body, rest)) = split(records) {
        match read(body) {
            Ok(change) => {
                if bundle.apply(change).is_err() {
                    return warn!("a change of what was known does not fit: it and all later ones are not used");
                }
            }
            Err(error) => return warn!(%error, "a change of what was known is not used, nor all later ones"),
        }
        records = rest;
    }
}

/// The first record, where it is whole, and the rest.
fn split(records: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = records.split_first_chunk::<8>()?;
    let (checksum, rest) = rest.split_first_chunk::<32>()?;
    let (body, rest) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
    (Sha256::digest(body).as_slice() == checksum).then_some((body, rest))
}

fn read(body: &[u8]) -> Result<Delta, Malformed> {
    let saved = wire::Saved::decode(body).map_err(|error| undecodable(&error))?;
    let mut update = Update::default();
    update.take(&wire::Part { policy: saved.policy, ..wire::Part::default() })?;
    Ok(update.policy)
}
