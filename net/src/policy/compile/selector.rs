//! Selectors in one form, however they were written.

use std::sync::Arc;

use super::ids::Sym;
use super::symbols::Symbols;
use crate::policy::input::{Operator, Selector};

/// What all must be true of labels, sorted and each once; without any, everything is selected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Needs(Arc<[Need]>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Need {
    key: Sym,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Test {
    In(Box<[Sym]>),
    NotIn(Box<[Sym]>),
    Exists,
    DoesNotExist,
}

/// A label without which nothing is selected: by it, a selector is found from labels.
#[derive(Clone, Copy, Debug)]
pub enum Anchor<'a> {
    /// The key with one of these values.
    Values(Sym, &'a [Sym]),
    /// The key.
    Key(Sym),
    /// There is none.
    None,
}

impl Default for Needs {
    fn default() -> Self {
        Self(Arc::from([]))
    }
}

impl Needs {
    /// Of a selector, whose texts are kept until [`Self::release`].
    pub fn acquire(symbols: &mut Symbols, selector: &Selector) -> Self {
        let mut all: Vec<Need> = Vec::with_capacity(selector.labels.len() + selector.expressions.len());
        for (key, value) in &selector.labels {
            all.push(Need { key: symbols.acquire(key), test: Test::In([symbols.acquire(value)].into()) });
        }
        for expression in &selector.expressions {
            let mut list = |values: &std::collections::BTreeSet<String>| -> Box<[Sym]> {
                let mut syms: Box<[Sym]> = values.iter().map(|value| symbols.acquire(value)).collect();
                syms.sort_unstable();
                syms
            };
            let test = match &expression.operator {
                Operator::In(values) => Test::In(list(values)),
                Operator::NotIn(values) => Test::NotIn(list(values)),
                Operator::Exists => Test::Exists,
                Operator::DoesNotExist => Test::DoesNotExist,
            };
            all.push(Need { key: symbols.acquire(&expression.key), test });
        }
        all.sort_unstable();
        let mut once: Vec<Need> = Vec::with_capacity(all.len());
        for need in all {
            if once.last() == Some(&need) { need.release(symbols) } else { once.push(need) }
        }
        Self(once.into())
    }

    pub fn release(&self, symbols: &mut Symbols) {
        for need in self.0.iter() {
            need.release(symbols);
        }
    }

    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    pub fn matches(&self, labels: &[(Sym, Sym)]) -> bool {
        self.0.iter().all(|need| {
            let value = labels.iter().find(|(key, _)| *key == need.key).map(|(_, value)| value);
            match &need.test {
                Test::In(values) => value.is_some_and(|value| values.contains(value)),
                Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Test::Exists => value.is_some(),
                Test::DoesNotExist => value.is_none(),
            }
        })
    }

    /// The narrowest label that it asks for.
    pub fn anchor(&self) -> Anchor<'_> {
        let values = self.0.iter().filter_map(|need| match &need.test {
            Test::In(values) => Some((need.key, values)),
            _ => None,
        });
        let key = || self.0.iter().find(|need| need.test == Test::Exists).map(|need| Anchor::Key(need.key));
        match values.min_by_key(|(_, values)| values.len()) {
            Some((key, values)) => Anchor::Values(key, values),
            None => key().unwrap_or(Anchor::None),
        }
    }

    /// Bytes that are the same for equal selectors in every process, and others for others.
    pub fn encode(&self, symbols: &Symbols) -> Vec<u8> {
        let mut all: Vec<Vec<u8>> = self.0.iter().map(|need| need.encode(symbols)).collect();
        all.sort_unstable();
        all.concat()
    }
}

impl Need {
    fn values(&self) -> (u8, &[Sym]) {
        match &self.test {
            Test::In(values) => (0, values),
            Test::NotIn(values) => (1, values),
            Test::Exists => (2, &[]),
            Test::DoesNotExist => (3, &[]),
        }
    }

    fn release(&self, symbols: &mut Symbols) {
        symbols.release(self.key);
        for value in self.values().1 {
            symbols.release(*value);
        }
    }

    fn encode(&self, symbols: &Symbols) -> Vec<u8> {
        let (tag, values) = self.values();
        let mut texts: Vec<&str> = values.iter().map(|value| symbols.text(*value)).collect();
        texts.sort_unstable();
        let mut bytes = vec![tag];
        bytes.extend((texts.len() as u64).to_be_bytes());
        for text in [symbols.text(self.key)].into_iter().chain(texts) {
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes
    }
}
