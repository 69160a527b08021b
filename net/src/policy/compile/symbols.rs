//! Texts as numbers, each kept once for as long as something names it.

use std::collections::HashMap;
use std::sync::Arc;

use super::ids::{Id as _, Sym};
use crate::policy::input::Labels;

/// Labels as numbers, in the order of their keys' texts.
pub type LabelSyms = Box<[(Sym, Sym)]>;

/// The texts. Hashed with a random key: users choose them.
#[derive(Debug, Default)]
pub struct Symbols {
    ids: HashMap<Arc<str>, Sym>,
    texts: Vec<(Option<Arc<str>>, u32)>,
    free: Vec<Sym>,
}

impl Symbols {
    /// The number of a text, which is kept until it is released as often.
    pub fn acquire(&mut self, text: &str) -> Sym {
        if let Some(sym) = self.ids.get(text) {
            self.texts[sym.number() as usize].1 += 1;
            return *sym;
        }
        let shared: Arc<str> = text.into();
        let entry = (Some(Arc::clone(&shared)), 1);
        let sym = if let Some(sym) = self.free.pop() {
            self.texts[sym.number() as usize] = entry;
            sym
        } else {
            self.texts.push(entry);
            Sym::of(u32::try_from(self.texts.len() - 1).unwrap_or(u32::MAX))
        };
        self.ids.insert(shared, sym);
        sym
    }

    /// Keeps a text once more.
    pub fn hold(&mut self, sym: Sym) {
        self.texts[sym.number() as usize].1 += 1;
    }

    pub fn release(&mut self, sym: Sym) {
        let (text, holders) = &mut self.texts[sym.number() as usize];
        *holders -= 1;
        if *holders == 0 {
            if let Some(text) = text.take() {
                self.ids.remove(&text);
            }
            self.free.push(sym);
        }
    }

    pub fn text(&self, sym: Sym) -> &str {
        self.texts[sym.number() as usize].0.as_deref().unwrap_or_default()
    }

    pub fn acquire_labels(&mut self, labels: &Labels) -> LabelSyms {
        labels.iter().map(|(key, value)| (self.acquire(key), self.acquire(value))).collect()
    }

    pub fn release_labels(&mut self, labels: &[(Sym, Sym)]) {
        for (key, value) in labels {
            self.release(*key);
            self.release(*value);
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.ids.len()
    }
}
