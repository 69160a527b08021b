//! What of a policy cannot be honoured: where, what, and what to do about it.

use std::borrow::Cow;
use std::fmt;

use towpath_net::intent::{self, Remedy};

/// One thing that cannot be honoured.
pub type Finding = intent::Finding<Problem>;

/// Why something cannot be honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Problem {
    /// Neither `Ingress` nor `Egress`.
    #[error("is not a policy type")]
    PolicyType,
    /// An operator of a label selector that is none.
    #[error("is not an operator of a selector")]
    Operator,
    /// `In` or `NotIn` of nothing.
    #[error("has no values")]
    NoValues,
    /// `Exists` or `DoesNotExist` of something.
    #[error("has values, and asks only for the label")]
    Values,
    /// A peer that says nothing, or two things at once.
    #[error("has not just one kind of peer")]
    Peer,
    /// Not a CIDR.
    #[error("is not a CIDR")]
    Cidr,
    /// IPv4 written as IPv6: no packet ever has such an address.
    #[error("is an IPv4 network written as IPv6")]
    Mapped,
    /// An exception that is none.
    #[error("is not a part of the CIDR that it is an exception of")]
    Except,
    /// A protocol that is none, or has no ports.
    #[error("is not a protocol that policies know")]
    Protocol,
    /// A number that no port has.
    #[error("is not a port")]
    Port,
    /// A name that no port can have.
    #[error("is not a name of a port")]
    PortName,
    /// An end without a beginning.
    #[error("needs a port that is a number")]
    EndAlone,
    /// A range that ends before it begins.
    #[error("is below the port that the range begins with")]
    EndBelow,
    /// Ports that are given in no known way, or in two.
    #[error("has not just one kind of port")]
    Ports,
    /// A list that must hold something.
    #[error("is empty")]
    Empty,
    /// Something that is not there, or that this version of Towpath does not know.
    #[error("is missing, or not understood")]
    NotUnderstood,
    /// A field that this version of Towpath does not know.
    #[error("is a field that is not understood")]
    Field,
    /// Peers by their domain names.
    #[error("is experimental, and not honoured")]
    DomainNames,
    /// A port by a name that only pods give, of something else.
    #[error("is a name that nodes and networks do not give to ports")]
    NamedElsewhere,
}

impl Remedy for Problem {
    fn remedy(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::PolicyType => "write Ingress or Egress",
            Self::Operator => "write In, NotIn, Exists or DoesNotExist",
            Self::NoValues => "list values, or write Exists or DoesNotExist",
            Self::Values => "leave the values out, or write In or NotIn",
            Self::Peer | Self::Ports => "give each kind an entry of its own",
            Self::Cidr => "write it as in 10.0.0.0/8 or fd00::/8",
            Self::Mapped => "write it as IPv4",
            Self::Except => "write a smaller CIDR that is within it",
            Self::Protocol => "write TCP, UDP or SCTP",
            Self::Port => "write a number from 1 to 65535",
            Self::PortName => "write a name with a letter in it, or a number without quotes",
            Self::EndAlone => "give the first port by its number",
            Self::EndBelow => "write a number that is not below it",
            Self::Empty => "list something, or leave the rule out",
            Self::NotUnderstood | Self::Field => "write what policy.networking.k8s.io/v1alpha2 of v0.2.0 has",
            Self::DomainNames => "list networks instead",
            Self::NamedElsewhere => "give the port by its number, or give pods a rule of their own",
        })
    }
}

/// The path of a field. It is put into words only where something is found there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path<'a> {
    /// A field of the object.
    Top(&'static str),
    /// A field of a field.
    Field(&'a Path<'a>, &'a str),
    /// An entry of a list.
    Item(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    /// Where all of it is.
    pub const SPEC: Path<'static> = Path::Top("spec");

    /// A field of this.
    pub const fn field(&'a self, name: &'a str) -> Path<'a> {
        Path::Field(self, name)
    }

    /// An entry of this.
    pub const fn item(&'a self, index: usize) -> Path<'a> {
        Path::Item(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top(name) => f.write_str(name),
            Self::Field(of, name) => write!(f, "{of}.{name}"),
            Self::Item(of, index) => write!(f, "{of}[{index}]"),
        }
    }
}

/// What was found in one policy.
#[derive(Debug, Default)]
pub(super) struct Findings(pub Vec<Finding>);

impl Findings {
    /// Something that cannot be honoured.
    pub fn add(&mut self, at: Path<'_>, value: impl fmt::Display, problem: Problem) {
        self.0.push(Finding { field: at.to_string(), value: value.to_string(), problem });
    }

    /// What was read, or what is wrong with it.
    pub fn keep<T>(&mut self, at: Path<'_>, value: impl fmt::Display, read: Result<T, Problem>) -> Option<T> {
        read.map_err(|problem| self.add(at, value, problem)).ok()
    }
}
