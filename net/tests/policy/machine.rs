//! nftables in memory: what the kernel does with the expressions of rules (`net/netfilter/nf_tables_core.c` and the
//! expressions beside it), for those that policies are made of.

use std::collections::{BTreeMap, HashMap, HashSet};

use towpath_net::nft::{Base, Chain, Comparison, Expr, Header, Hook, Meta, Register, Rule};

/// The most jumps within each other (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;
/// `NFT_REG32_COUNT` of 4 bytes.
const REGISTERS: usize = 16 * 4;
/// `IFNAMSIZ`.
const LINK_NAME: usize = 16;

/// What a packet has on its way through a hook.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// The IP header.
    pub network: Vec<u8>,
    /// What follows it; nothing in a later fragment.
    pub transport: Option<Vec<u8>>,
    /// The address family, as `NFPROTO_*`.
    pub family: u8,
    /// The protocol above IP.
    pub protocol: u8,
    /// The link that it came by.
    pub from_link: Option<String>,
    /// The link that it leaves by.
    pub to_link: Option<String>,
    /// The bit of its state in its connection.
    pub state: u32,
}

/// `NF_CT_STATE_BIT` of `IP_CT_ESTABLISHED`.
pub const ESTABLISHED: u32 = 2;
/// Of `IP_CT_RELATED`.
pub const RELATED: u32 = 4;
/// Of `IP_CT_NEW`.
pub const NEW: u32 = 8;

/// What a set or map holds, by the bytes of its keys.
#[derive(Clone, Debug)]
pub enum Contents {
    /// Single keys.
    Keys(HashSet<Vec<u8>>),
    /// Ranges of keys, both ends included.
    Ranges(Vec<(Vec<u8>, Vec<u8>)>),
    /// Single keys, and what to do with each.
    Verdicts(HashMap<Vec<u8>, Outcome>),
}

/// What a rule or a map says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Continue,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// A table, ready to be run.
#[derive(Debug, Default)]
pub struct Machine {
    pub chains: BTreeMap<String, Chain>,
    /// The length of a key, and what is there.
    pub sets: HashMap<String, (usize, Contents)>,
}

impl Machine {
    /// Whether a packet passes all base chains of a hook.
    pub fn passes(&self, hook: Hook, frame: &Frame) -> bool {
        let at_hook = |chain: &&Chain| chain.base.is_some_and(|base| base.hook == hook);
        let mut chains: Vec<(&Chain, Base)> =
            self.chains.values().filter(at_hook).filter_map(|chain| Some((chain, chain.base?))).collect();
        chains.sort_by_key(|(_, base)| base.priority);
        chains.iter().all(|(chain, base)| match self.chain(chain, frame, 0) {
            Outcome::Accept => true,
            Outcome::Drop => false,
            _ => base.accepts,
        })
    }

    fn named(&self, name: &str) -> &Chain {
        self.chains.get(name).unwrap_or_else(|| panic!("there is no chain {name}"))
    }

    /// Accept, drop, or return where no rule decided.
    fn chain(&self, chain: &Chain, frame: &Frame, depth: usize) -> Outcome {
        assert!(depth < DEPTH, "too many jumps within each other");
        for rule in &chain.rules {
            match self.rule(rule, frame) {
                Outcome::Continue => {}
                Outcome::Jump(name) => match self.chain(self.named(&name), frame, depth + 1) {
                    Outcome::Return => {}
                    decided => return decided,
                },
                Outcome::Goto(name) => return self.chain(self.named(&name), frame, depth),
                decided => return decided,
            }
        }
        Outcome::Return
    }

    fn rule(&self, rule: &Rule, frame: &Frame) -> Outcome {
        let mut registers = Registers([0; REGISTERS]);
        for expr in &rule.exprs {
            match self.expr(expr, frame, &mut registers) {
                Some(Outcome::Continue) => {}
                Some(decided) => return decided,
                None => return Outcome::Continue,
            }
        }
        Outcome::Continue
    }

    /// Continue to go on with the rule, nothing where the rule does not match.
    fn expr(&self, expr: &Expr, frame: &Frame, registers: &mut Registers) -> Option<Outcome> {
        let goes_on = |yes: bool| yes.then_some(Outcome::Continue);
        match expr {
            Expr::Meta { key, to } => {
                registers.put(*to, &meta(*key, frame)?);
                goes_on(true)
            }
            Expr::SetBits { from, to, bits } => {
                let set: Vec<u8> =
                    registers.get(*from, bits.len()).iter().zip(bits).map(|(value, bits)| value | bits).collect();
                registers.put(*to, &set);
                goes_on(true)
            }
            Expr::Payload { header, offset, len, to } => {
                let bytes = match header {
                    Header::Link => None,
                    Header::Network => Some(&frame.network),
                    Header::Transport => frame.transport.as_ref(),
                }?;
                let (start, len) = (*offset as usize, *len as usize);
                registers.put(*to, bytes.get(start..start + len)?);
                goes_on(true)
            }
            Expr::Compare { from, op, value } => {
                goes_on((registers.get(*from, value.len()) == value) == (*op == Comparison::Equal))
            }
            Expr::Between { from, low, high } => {
                let value = registers.get(*from, low.len());
                goes_on(value >= low.as_slice() && value <= high.as_slice())
            }
            Expr::Mask { from, to, mask } => {
                let masked: Vec<u8> =
                    registers.get(*from, mask.len()).iter().zip(mask).map(|(value, mask)| value & mask).collect();
                registers.put(*to, &masked);
                goes_on(true)
            }
            Expr::Constant { value, to } => {
                registers.put(*to, value);
                goes_on(true)
            }
            Expr::Lookup { set, from, to: None, inverted } => {
                goes_on(self.look_up(set, *from, registers).is_some() != *inverted)
            }
            Expr::VerdictOf { map, from } => Some(self.look_up(map, *from, registers)?),
            Expr::ConnectionState { to } => {
                registers.put(*to, &frame.state.to_ne_bytes());
                goes_on(true)
            }
            // Nothing in this table asks for the mark.
            Expr::SetMeta { key: Meta::Mark, .. } | Expr::Count | Expr::Limit { .. } | Expr::Log { .. } => {
                goes_on(true)
            }
            Expr::Accept => Some(Outcome::Accept),
            Expr::Drop => Some(Outcome::Drop),
            Expr::Return => Some(Outcome::Return),
            Expr::Jump { chain } => Some(Outcome::Jump(chain.clone())),
            Expr::Goto { chain } => Some(Outcome::Goto(chain.clone())),
            other => panic!("policies are not made of {other:?}"),
        }
    }

    fn look_up(&self, set: &str, from: Register, registers: &Registers) -> Option<Outcome> {
        let (length, contents) = self.sets.get(set).unwrap_or_else(|| panic!("there is no set {set}"));
        let key = registers.get(from, *length);
        match contents {
            Contents::Keys(keys) => keys.contains(key).then_some(Outcome::Continue),
            Contents::Ranges(ranges) => ranges
                .iter()
                .any(|(first, last)| first.as_slice() <= key && key <= last.as_slice())
                .then_some(Outcome::Continue),
            Contents::Verdicts(verdicts) => verdicts.get(key).cloned(),
        }
    }
}

fn meta(key: Meta, frame: &Frame) -> Option<Vec<u8>> {
    let name = |name: &Option<String>| {
        let mut bytes = name.as_ref()?.clone().into_bytes();
        bytes.resize(LINK_NAME, 0);
        Some(bytes)
    };
    match key {
        Meta::NfProto => Some(vec![frame.family]),
        Meta::L4Proto => Some(vec![frame.protocol]),
        Meta::InputName => name(&frame.from_link),
        Meta::OutputName => name(&frame.to_link),
        Meta::Mark => Some(vec![0; 4]),
    }
}

struct Registers([u8; REGISTERS]);

impl Registers {
    /// Puts bytes into a register and those behind it, with zeros behind the last byte.
    fn put(&mut self, to: Register, bytes: &[u8]) {
        let start = usize::from(to.0) * 4;
        self.0[start..start + bytes.len().next_multiple_of(4)].fill(0);
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
    }

    fn get(&self, from: Register, length: usize) -> &[u8] {
        let start = usize::from(from.0) * 4;
        &self.0[start..start + length]
    }
}
