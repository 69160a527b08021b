//! What a runtime says by environment variables (CNI specification, section 2, "Parameters").

use std::fmt;

use towpath_net::lease::{AttachmentId, PodReference};
use towpath_net::mac::Mac;

use crate::wish::{self, Asked};

/// The longest name of a link, in bytes (`IFNAMSIZ` less the final zero).
const LONGEST_INTERFACE: usize = 15;

/// A verb of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Attaches.
    Add,
    /// Detaches.
    Delete,
    /// Tells whether an attachment is as it should be.
    Check,
    /// Removes what no runtime knows any more.
    CollectGarbage,
    /// Tells whether ADD would work.
    Status,
    /// Tells the versions that are spoken.
    Version,
}

impl Verb {
    /// Parses `CNI_COMMAND`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "ADD" => Self::Add,
            "DEL" => Self::Delete,
            "CHECK" => Self::Check,
            "GC" => Self::CollectGarbage,
            "STATUS" => Self::Status,
            "VERSION" => Self::Version,
            other => return Err(Error::UnknownVerb(other.to_owned())),
        })
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "ADD",
            Self::Delete => "DEL",
            Self::Check => "CHECK",
            Self::CollectGarbage => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        })
    }
}

/// Why the environment cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such verb.
    #[error("unknown CNI_COMMAND {0:?}: it is ADD, DEL, CHECK, GC, STATUS or VERSION")]
    UnknownVerb(String),
    /// Variables that the verb needs are not there.
    #[error("required env variables [{}] missing", .0.join(","))]
    Missing(Vec<&'static str>),
    /// `CNI_CONTAINERID` is no container id.
    #[error(
        "CNI_CONTAINERID {0:?} is not a container id: letters, digits, '_', '.' and '-', the first a letter or digit"
    )]
    ContainerId(String),
    /// `CNI_IFNAME` cannot be the name of a link.
    #[error(
        "CNI_IFNAME {0:?} is not a name of a link: at most 15 bytes without '/', ':' and white space, not '.' or '..'"
    )]
    Interface(String),
    /// `CNI_ARGS` is not a list of pairs.
    #[error("CNI_ARGS has {0:?}, which is not KEY=VALUE")]
    NotAPair(String),
    /// `CNI_ARGS` has keys that are not known, and does not say that they may be ignored.
    #[error("CNI_ARGS has unknown keys [{}], and not IgnoreUnknown=1", .0.join(","))]
    UnknownArguments(Vec<String>),
    /// A value in `CNI_ARGS` is not what it should be.
    #[error("CNI_ARGS has {key}={value}: {remedy}")]
    Argument {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        remedy: &'static str,
    },
}

/// Where to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What names the attachment.
    pub attachment: AttachmentId,
    /// The path of the pod's network namespace, as the runtime wrote it.
    pub netns: String,
    /// What `CNI_ARGS` says; only read for ADD.
    pub arguments: Arguments,
    /// Whether the namespace may be the binary's own.
    pub may_be_own: bool,
}

/// What a runtime says in `CNI_ARGS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Whose interface it is, where the runtime told.
    pub pod: Option<PodReference>,
    /// The addresses that the pod shall have.
    pub asked: Asked,
    /// The Ethernet address that its interface shall have.
    pub mac: Option<Mac>,
}

/// What a runtime wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Attach.
    Add(Place),
    /// Tell whether an attachment is as it should be.
    Check(Place),
    /// Detach.
    Delete {
        /// What names the attachment.
        attachment: AttachmentId,
        /// The path of the pod's network namespace, which may be gone, or empty.
        netns: String,
    },
    /// Remove what no runtime knows any more.
    CollectGarbage,
    /// Tell whether ADD would work.
    Status,
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Command {
    /// Reads the variables that a verb needs. [`Verb::Version`] needs none, and counts as [`Command::Status`] here.
    pub fn parse(verb: Verb, environment: Environment<'_>) -> Result<Self, Error> {
        Ok(match verb {
            Verb::Add => Self::Add(place(environment, true)?),
            Verb::Check => Self::Check(place(environment, false)?),
            Verb::Delete => Self::Delete {
                attachment: attachment(environment, &["CNI_CONTAINERID", "CNI_IFNAME"])?,
                netns: environment("CNI_NETNS").unwrap_or_default(),
            },
            Verb::CollectGarbage => Self::CollectGarbage,
            Verb::Status | Verb::Version => Self::Status,
        })
    }
}

fn place(environment: Environment<'_>, with_arguments: bool) -> Result<Place, Error> {
    let attachment = attachment(environment, &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"])?;
    let arguments = environment("CNI_ARGS").filter(|_| with_arguments).unwrap_or_default();
    let may_be_own = environment("CNI_NETNS_OVERRIDE").is_some_and(|v| v == "1" || v.eq_ignore_ascii_case("true"));
    let netns = environment("CNI_NETNS").unwrap_or_default();
    Ok(Place { attachment, netns, arguments: parse_arguments(&arguments)?, may_be_own })
}

fn attachment(environment: Environment<'_>, required: &[&'static str]) -> Result<AttachmentId, Error> {
    let value = |name: &str| environment(name).filter(|value| !value.is_empty());
    let missing: Vec<&'static str> = required.iter().copied().filter(|name| value(name).is_none()).collect();
    let (Some(container), Some(interface)) = (value("CNI_CONTAINERID"), value("CNI_IFNAME")) else {
        return Err(Error::Missing(missing));
    };
    if !missing.is_empty() {
        return Err(Error::Missing(missing));
    }
    if !is_identifier(&container) {
        return Err(Error::ContainerId(container));
    }
    if !is_interface(&interface) {
        return Err(Error::Interface(interface));
    }
    Ok(AttachmentId { container, interface })
}

/// Whether a text is what the specification takes for container ids and network names.
pub fn is_identifier(text: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && text.bytes().all(rest)
}

/// What the kernel takes (`dev_valid_name`), which is what the specification asks for.
fn is_interface(text: &str) -> bool {
    let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
    text.len() <= LONGEST_INTERFACE && text != "." && text != ".." && !text.contains(forbidden)
}

/// Reads `CNI_ARGS`: pairs in any order. A runtime may leave out the namespace and the uid of a pod, not its name.
fn parse_arguments(text: &str) -> Result<Arguments, Error> {
    let mut arguments = Arguments::default();
    let mut pod = PodReference::default();
    let (mut unknown, mut ignore_unknown) = (Vec::new(), false);
    for pair in text.split(';').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| Error::NotAPair(pair.to_owned()))?;
        let wrong = |key| move |remedy| Error::Argument { key, value: value.to_owned(), remedy };
        match key {
            "IgnoreUnknown" => ignore_unknown = value == "1" || value.eq_ignore_ascii_case("true"),
            "K8S_POD_NAMESPACE" => value.clone_into(&mut pod.namespace),
            "K8S_POD_NAME" => value.clone_into(&mut pod.name),
            "K8S_POD_UID" => value.clone_into(&mut pod.uid),
            "K8S_POD_INFRA_CONTAINER_ID" => {}
            "IP" => arguments.asked = wish::addresses(value.split(',')).map_err(wrong("IP"))?,
            "MAC" => arguments.mac = wish::mac(value).map_err(wrong("MAC"))?,
            other => unknown.push(other.to_owned()),
        }
    }
    if !unknown.is_empty() && !ignore_unknown {
        return Err(Error::UnknownArguments(unknown));
    }
    arguments.pod = (!pod.name.is_empty()).then_some(pod);
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(verb: &str, pairs: &[(&str, &str)]) -> Result<Command, Error> {
        let find = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Command::parse(Verb::parse(verb)?, &find)
    }

    const FULL: [(&str, &str); 3] = [("CNI_CONTAINERID", "c1"), ("CNI_NETNS", "/run/netns/a"), ("CNI_IFNAME", "eth0")];

    #[test]
    fn all_missing_variables_are_named() {
        let missing = command("ADD", &[("CNI_CONTAINERID", "x"), ("CNI_NETNS", "")]).unwrap_err();
        assert_eq!(missing.to_string(), "required env variables [CNI_NETNS,CNI_IFNAME] missing");
        let missing = command("DEL", &[]).unwrap_err();
        assert_eq!(missing.to_string(), "required env variables [CNI_CONTAINERID,CNI_IFNAME] missing");
        command("DEL", &[("CNI_CONTAINERID", "x"), ("CNI_IFNAME", "eth0")]).unwrap();
        command("STATUS", &[]).unwrap();
        command("GC", &[]).unwrap();
        assert!(matches!(command("UPDATE", &[]), Err(Error::UnknownVerb(_))));
    }

    #[test]
    fn ids_and_names_are_checked() {
        for (container, interface, valid) in [
            ("5b-1f_.x", "eth0", true),
            ("-x", "eth0", false),
            ("a/b", "eth0", false),
            ("ä", "eth0", false),
            ("x", "123456789012345", true),
            ("x", "1234567890123456", false),
            ("x", "..", false),
            ("x", "a b", false),
            ("x", "a:b", false),
            ("x", "a/b", false),
        ] {
            let result = command("DEL", &[("CNI_CONTAINERID", container), ("CNI_IFNAME", interface)]);
            assert_eq!(result.is_ok(), valid, "{container} {interface}");
        }
    }

    #[test]
    fn arguments_come_in_any_order_and_tell_the_pod() {
        let pod = |arguments: &'static str| -> Result<Option<PodReference>, Error> {
            match command("ADD", &[&FULL[..], &[("CNI_ARGS", arguments)]].concat())? {
                Command::Add(place) => Ok(place.arguments.pod),
                other => panic!("{other:?}"),
            }
        };
        let full = "K8S_POD_UID=u;X=1;K8S_POD_NAME=p;IgnoreUnknown=1;K8S_POD_NAMESPACE=n;K8S_POD_INFRA_CONTAINER_ID=c";
        let expected = PodReference { namespace: "n".to_owned(), name: "p".to_owned(), uid: "u".to_owned() };
        assert_eq!(pod(full).unwrap(), Some(expected));
        assert_eq!(pod("IgnoreUnknown=1;K8S_POD_NAME=p").unwrap().map(|pod| pod.name), Some("p".to_owned()));
        assert_eq!(pod("").unwrap(), None);
        assert_eq!(pod("A=1;B=2").unwrap_err(), Error::UnknownArguments(vec!["A".to_owned(), "B".to_owned()]));
        assert_eq!(pod("A").unwrap_err(), Error::NotAPair("A".to_owned()));
    }

    #[test]
    fn arguments_may_ask_for_addresses() {
        let arguments = parse_arguments("IP=10.244.1.7/24,fd00::7;MAC=02:00:5e:10:00:01").unwrap();
        assert_eq!(arguments.asked.v4, "10.244.1.7".parse().ok());
        assert_eq!(arguments.asked.v6, "fd00::7".parse().ok());
        assert_eq!(arguments.mac, Some(Mac([2, 0, 0x5e, 0x10, 0, 1])));
        assert_eq!(parse_arguments("IP=;MAC=").unwrap(), Arguments::default());
        let wrong = parse_arguments("IP=10.244.1").unwrap_err().to_string();
        assert!(wrong.starts_with("CNI_ARGS has IP=10.244.1: each should be an address"), "{wrong}");
        assert!(parse_arguments("IP=10.0.0.1,10.0.0.2").is_err());
        assert!(parse_arguments("MAC=ff:ff:ff:ff:ff:ff").is_err());
    }
}
