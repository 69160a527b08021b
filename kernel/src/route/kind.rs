//! What becomes of packets that take a route, and how far it reaches.

/// Types (`linux/rtnetlink.h`, as all that follows).
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_BLACKHOLE: u8 = 6;
/// Scopes.
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;

/// What happens to a packet that takes a route (`rtm_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It is sent on.
    Unicast,
    /// It is for this node: such routes are in the table of the node's own addresses.
    Local,
    /// It is dropped in silence.
    Blackhole,
    /// Something that Towpath never makes.
    Other(u8),
}

impl Kind {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Unicast => RTN_UNICAST,
            Self::Local => RTN_LOCAL,
            Self::Blackhole => RTN_BLACKHOLE,
            Self::Other(number) => number,
        }
    }

    pub(super) const fn numbered(number: u8) -> Self {
        match number {
            RTN_UNICAST => Self::Unicast,
            RTN_LOCAL => Self::Local,
            RTN_BLACKHOLE => Self::Blackhole,
            other => Self::Other(other),
        }
    }
}

/// How far away the destination is (`rtm_scope`); IPv6 knows only one scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Anywhere (`RT_SCOPE_UNIVERSE`).
    Global,
    /// On the link (`RT_SCOPE_LINK`).
    Link,
    /// Something that Towpath never makes.
    Other(u8),
}

impl Scope {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Global => RT_SCOPE_UNIVERSE,
            Self::Link => RT_SCOPE_LINK,
            Self::Other(number) => number,
        }
    }

    pub(super) const fn numbered(number: u8) -> Self {
        match number {
            RT_SCOPE_UNIVERSE => Self::Global,
            RT_SCOPE_LINK => Self::Link,
            other => Self::Other(other),
        }
    }
}
