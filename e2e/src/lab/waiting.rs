//! Waiting for something in a lab, with what its components said when it does not come.

use std::time::Duration;

use super::{Lab, LabError};
use crate::{
    component::{Component, ComponentId, Kind},
    wait::{self, Look, WaitError},
};

/// What a component said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Testimony {
    /// The component.
    pub component: ComponentId,
    /// The end of its log.
    pub lines: String,
}

pub(super) fn shown(testimonies: &[Testimony]) -> String {
    let show = |said: &Testimony| format!("\n{}, last lines:\n{}", said.component, said.lines);
    testimonies.iter().map(show).collect::<Vec<_>>().concat()
}

impl Lab {
    /// Waits for a condition and fails early when a component of the lab dies.
    ///
    /// # Errors
    /// `look`'s own error, a component's death, or the deadline.
    pub fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        look: impl FnMut() -> Result<Look<T>, LabError>,
    ) -> Result<T, LabError> {
        self.wait_on(&[], what, limit, look)
    }

    /// As [`Lab::wait_for`]; when the deadline passes, the error has the last lines of these programs.
    pub(super) fn wait_on<T>(
        &self,
        suspects: &[Kind],
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<Look<T>, LabError>,
    ) -> Result<T, LabError> {
        let records = self.folder.records();
        let result = wait::until(what, limit, &self.interrupt, || {
            match Component::all(&records).iter().find_map(Component::died) {
                Some(died) => Err(died.into()),
                None => look(),
            }
        });
        result.map_err(|error| match error {
            LabError::Wait(source @ WaitError::Deadline { .. }) => {
                LabError::Waited { source, said: self.ask(suspects), logs: self.folder.logs() }
            }
            other => other,
        })
    }

    fn ask(&self, suspects: &[Kind]) -> Vec<Testimony> {
        let all = Component::all(&self.folder.records()).into_iter();
        let asked = all.filter(|component| suspects.contains(&component.id.kind));
        asked.map(|component| Testimony { lines: component.last_lines(), component: component.id }).collect()
    }
}
