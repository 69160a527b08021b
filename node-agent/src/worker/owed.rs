//! What is owed to whoever told something: an answer, when it was brought about.

use super::{Heard, Outcome, Receipt};

/// Answers that are owed.
#[derive(Debug)]
pub struct Owed {
    receipts: Vec<Receipt>,
    /// Whether only a turn brings about what was told.
    is_turn_due: bool,
}

impl Owed {
    /// Nobody told anything yet. What an earlier agent was told may not be in the kernel before a turn was done, though it is
    /// known, and so nothing new to whoever hears it again.
    pub const fn new() -> Self {
        Self { receipts: Vec::new(), is_turn_due: true }
    }

    /// Something was told, and this came of it.
    pub fn hear(&mut self, receipts: Vec<Receipt>, heard: Heard) {
        self.receipts.extend(receipts);
        self.is_turn_due |= heard == Heard::TurnDue;
        self.answer();
    }

    /// A turn was done. One that saw nothing brought nothing about, and what the kernel has is not known any more.
    pub fn turned(&mut self, outcome: Outcome) {
        self.is_turn_due = outcome == Outcome::Blind;
        self.answer();
    }

    /// What was told was brought about, as far as this node can: what it cannot is told by its status, and is no reason to
    /// hear of no policies any more.
    fn answer(&mut self) {
        if !self.is_turn_due {
            self.receipts.drain(..).for_each(Receipt::done);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn told() -> (Vec<Receipt>, Receiver<Result<(), String>>) {
        let (tell, told) = channel();
        (vec![Receipt::telling(move |answer| tell.send(answer).unwrap())], told)
    }

    #[test]
    fn nothing_is_answered_before_the_first_turn_though_it_is_all_known() {
        let (receipts, answer) = told();
        let mut owed = Owed::new();
        owed.hear(receipts, Heard::Nothing);
        assert!(answer.try_recv().is_err());
        owed.turned(Outcome::Settled);
        assert_eq!(answer.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn behind_a_turn_that_saw_nothing_nothing_is_answered_before_one_that_does() {
        let mut owed = Owed::new();
        owed.turned(Outcome::Settled);
        owed.turned(Outcome::Blind);
        let (receipts, answer) = told();
        owed.hear(receipts, Heard::Nothing);
        owed.turned(Outcome::Blind);
        assert!(answer.try_recv().is_err());
        owed.turned(Outcome::Partial);
        assert_eq!(answer.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn what_a_turn_must_bring_about_is_answered_behind_it_and_all_else_at_once() {
        let mut owed = Owed::new();
        owed.turned(Outcome::Settled);
        for (heard, at_once) in [(Heard::Nothing, true), (Heard::BroughtAbout, true), (Heard::TurnDue, false)] {
            let (receipts, answer) = told();
            owed.hear(receipts, heard);
            assert_eq!(answer.try_recv().is_ok(), at_once, "{heard:?}");
            owed.turned(Outcome::Settled);
            assert_eq!(answer.try_recv().is_ok(), !at_once, "{heard:?}");
        }
    }
}
