//! The CNI binary: attaches pods from the state that the agent rendered (CNI specification 1.1.0).
//!
//! ```text
//! environment, stdin --> Command, Config --+
//! node.json (the agent's) -----------------+--> lease --> kernel --> lease complete --> result on stdout
//! ```
//!
//! It needs no API server, no agent and no other program; it makes no thread but one inside the pod's namespace. Where there
//! are policies, ADD asks the agent whether those of the pod are in force ([`admission`]), and waits for that in bounds.

pub mod add;
pub mod admission;
pub mod bandwidth;
pub mod check;
pub mod config;
pub mod environment;
pub mod error;
pub mod foreign;
pub mod gc;
pub mod hostports;
pub mod loopback;
pub mod ready;
pub mod result;
pub mod status;
pub mod version;
pub mod wire;
pub mod wish;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use towpath_kernel::leases::Store;
use towpath_kernel::netlink::{Protocol, Socket};
use towpath_kernel::release::{delete_links, release};
use towpath_net::lease::AttachmentId;

use config::Config;
use environment::{Command, Verb};
use error::Error;
use version::SpecVersion;

/// Which plugin the binary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// Towpath's own.
    Towpath,
    /// Sets the loopback of pods up.
    Loopback,
}

impl Plugin {
    /// The plugin of the name that the binary was called by.
    pub fn named(program: Option<&OsStr>) -> Self {
        match program.and_then(|path| Path::new(path).file_name()) {
            Some(name) if name == "loopback" => Self::Loopback,
            _ => Self::Towpath,
        }
    }
}

/// One call of the binary.
pub struct Call<'a> {
    /// Which plugin.
    pub plugin: Plugin,
    /// Reads an environment variable.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Reads the standard input to its end.
    pub read: &'a dyn Fn() -> io::Result<Vec<u8>>,
}

/// Answers one call: at most one JSON document on `out`, and whether it succeeded.
pub fn run(call: &Call<'_>, out: &mut impl Write, log: &mut impl Write) -> ExitCode {
    let Some(verb) = (call.environment)("CNI_COMMAND").filter(|verb| !verb.is_empty()) else {
        return about(log);
    };
    let mut version = SpecVersion::LATEST;
    let answer = answer(call, &verb, &mut version, log);
    let (document, code) = match answer {
        Ok(document) => (document, ExitCode::SUCCESS),
        Err(error) => (Some(error.document(version)), ExitCode::FAILURE),
    };
    let written = document.map_or(Ok(()), |document| writeln!(out, "{document}").and_then(|()| out.flush()));
    // Nobody listens any more: the runtime has gone, and will undo this when it is back.
    if written.is_err() { ExitCode::FAILURE } else { code }
}

/// What the binary says of itself. The agent recognises binaries of other releases by the name of the API group in them.
const ABOUT: &str =
    concat!("Towpath CNI plugin ", env!("CARGO_PKG_VERSION"), " of towpath.dev\nCNI versions supported: ");

/// A person called the binary by hand, or a tool that wants to know what it is.
fn about(log: &mut impl Write) -> ExitCode {
    let versions = SpecVersion::ALL.map(SpecVersion::text).join(", ");
    // Nobody is left to be told that nobody listens.
    _ = log.write_all(ABOUT.as_bytes()).and_then(|()| writeln!(log, "{versions}"));
    ExitCode::SUCCESS
}

fn answer(
    call: &Call<'_>,
    verb: &str,
    version: &mut SpecVersion,
    log: &mut impl Write,
) -> Result<Option<Value>, Error> {
    let verb = Verb::parse(verb)?;
    if verb == Verb::Version {
        return Ok(Some(versions()));
    }
    let command = Command::parse(verb, call.environment)?;
    let input = (call.read)().map_err(Error::Input)?;
    let config = Config::parse(verb, &input)?;
    *version = config.version;
    match call.plugin {
        Plugin::Towpath => towpath(&command, &config, log),
        Plugin::Loopback => loopback::answer(&command, &config),
    }
}

fn towpath(command: &Command, config: &Config, log: &mut impl Write) -> Result<Option<Value>, Error> {
    match command {
        Command::Add(place) => add::add(place, config, log).map(Some),
        Command::Check(place) => check::check(place, config).map(|()| None),
        Command::Delete { attachment, netns } => delete(attachment, netns, config).map(|()| None),
        Command::CollectGarbage => gc::collect(config).map(|()| None),
        Command::Status => status::status(config).map(|()| None),
    }
}

fn versions() -> Value {
    json!({
        "cniVersion": SpecVersion::LATEST.text(),
        "supportedVersions": SpecVersion::ALL.map(SpecVersion::text),
    })
}

/// Ends an attachment, whatever is left of it: by its lease, and where that is lost, by the name of its link; what
/// Towpath never attached, as another network would.
fn delete(attachment: &AttachmentId, netns: &str, config: &Config) -> Result<(), Error> {
    let mut node = Socket::open(Protocol::Route)?;
    let held = Store::below(&config.state).hold(attachment).map_err(towpath_kernel::leases::Error::File)?;
    if let Some(held) = held {
        release(held, &mut node)?;
    } else {
        delete_links(&mut node, attachment)?;
        foreign::remove(&mut node, attachment, netns);
    }
    Ok(())
}
