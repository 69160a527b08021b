//! How many may be connected, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Limits;
use crate::metrics::Refusal;

/// Counts who is connected.
#[derive(Debug)]
pub(super) struct Door {
    limits: Limits,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    /// Those of which nobody knows yet who they are.
    unknown: usize,
    of_address: HashMap<IpAddr, usize>,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    door: Arc<Door>,
    address: IpAddr,
    is_known: bool,
}

impl Door {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, inside: Mutex::default() }
    }

    /// A place for a connection from this address.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Refusal> {
        let address = address.to_canonical();
        let mut inside = self.inside();
        if inside.all >= self.limits.connections {
            return Err(Refusal::Connections);
        }
        if inside.unknown >= self.limits.unknown {
            return Err(Refusal::Unknown);
        }
        let here = inside.of_address.entry(address).or_default();
        if *here >= self.limits.connections_of_address {
            return Err(Refusal::ConnectionsOfAddress);
        }
        *here += 1;
        inside.all += 1;
        inside.unknown += 1;
        Ok(Place { door: self.clone(), address, is_known: false })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// It is known now who this is.
    pub(super) fn know(&mut self) {
        if !self.is_known {
            self.is_known = true;
            self.door.inside().unknown -= 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.know();
        let mut inside = self.door.inside();
        inside.all -= 1;
        if let Some(here) = inside.of_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                inside.of_address.remove(&self.address);
            }
        }
    }
}
