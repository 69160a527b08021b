//! Replicas that keep the same authorities.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use towpath_control::authority::{Authorities, Certificates, Keeper, Loaded, Store, StoreError, Stored};

/// What the API server holds, with its way of telling who was first.
#[derive(Clone, Default)]
struct Shelf(Arc<Content>);

#[derive(Default)]
struct Content {
    stored: Mutex<Option<(Authorities, u64)>>,
    published: Mutex<String>,
    is_away: AtomicBool,
    /// Is stored by another replica between the next load and what follows it.
    meddler: Mutex<Option<Authorities>>,
    created: Mutex<Option<SystemTime>>,
}

impl Store for Shelf {
    async fn load(&self) -> Result<Option<Loaded>, StoreError> {
        if self.0.is_away.load(Ordering::Relaxed) {
            return Err(StoreError::Api { operation: "read", object: "Secret".to_owned(), reason: "away".to_owned() });
        }
        let mut stored = self.0.stored.lock().unwrap();
        let created = *self.0.created.lock().unwrap();
        let loaded =
            stored.clone().map(|(authorities, version)| Loaded { authorities, version: version.to_string(), created });
        if let Some(meddled) = self.0.meddler.lock().unwrap().take() {
            *stored = Some((meddled, 1));
        }
        Ok(loaded)
    }

    async fn store(&self, authorities: &Authorities, before: Option<&Loaded>) -> Result<Stored, StoreError> {
        let mut stored = self.0.stored.lock().unwrap();
        let version = stored.as_ref().map(|(_, version)| *version);
        if version.map(|version| version.to_string()) != before.map(|before| before.version.clone()) {
            return Ok(Stored::Conflict);
        }
        *stored = Some((authorities.clone(), version.unwrap_or_default() + 1));
        Ok(Stored::Done)
    }

    async fn publish(&self, pem: &str) -> Result<(), StoreError> {
        pem.clone_into(&mut self.0.published.lock().unwrap());
        Ok(())
    }
}

impl Shelf {
    fn keeper(&self) -> (Keeper<Self>, Arc<Certificates>) {
        let certificates = Arc::new(Certificates::default());
        (Keeper::new(self.clone(), certificates.clone(), SystemTime::now), certificates)
    }

    fn stored(&self) -> Authorities {
        self.0.stored.lock().unwrap().clone().unwrap().0
    }
}

fn made_at(time: SystemTime) -> Authorities {
    let mut authorities = Authorities::default();
    authorities.turn(time).unwrap();
    authorities
}

#[tokio::test]
async fn of_two_replicas_that_begin_at_once_the_second_takes_what_the_first_made() {
    let shelf = Shelf::default();
    let first = made_at(SystemTime::now());
    *shelf.0.meddler.lock().unwrap() = Some(first.clone());
    let (mut keeper, certificates) = shelf.keeper();
    keeper.turn(true).await.unwrap();
    assert_eq!(shelf.stored(), first);
    assert_eq!(*shelf.0.published.lock().unwrap(), first.published());
    assert!(!certificates.renew(&first, SystemTime::now()).unwrap(), "it has a certificate of them");
}

#[tokio::test]
async fn a_replica_that_does_not_lead_writes_nothing() {
    let shelf = Shelf::default();
    let (mut keeper, certificates) = shelf.keeper();
    assert!(matches!(keeper.turn(false).await, Err(StoreError::NotYet)));
    let (mut leader, _) = shelf.keeper();
    leader.turn(true).await.unwrap();
    shelf.0.published.lock().unwrap().clear();
    keeper.turn(false).await.unwrap();
    assert!(!certificates.renew(&shelf.stored(), SystemTime::now()).unwrap());
    assert_eq!(*shelf.0.published.lock().unwrap(), "");
}

#[tokio::test]
async fn what_is_stored_stays_and_is_published_again() {
    let shelf = Shelf::default();
    let (mut keeper, _) = shelf.keeper();
    keeper.turn(true).await.unwrap();
    let stored = shelf.stored();
    shelf.0.published.lock().unwrap().clear();
    let (mut next, _) = shelf.keeper();
    next.turn(true).await.unwrap();
    assert_eq!(shelf.stored(), stored);
    assert_eq!(*shelf.0.published.lock().unwrap(), stored.published());
}

#[tokio::test]
async fn without_the_api_server_certificates_are_renewed_all_the_same() {
    static AHEAD: Mutex<Duration> = Mutex::new(Duration::ZERO);
    let shelf = Shelf::default();
    let certificates = Arc::new(Certificates::default());
    let clock = || SystemTime::now() + *AHEAD.lock().unwrap();
    let mut keeper = Keeper::new(shelf.clone(), certificates.clone(), clock);
    keeper.turn(true).await.unwrap();
    shelf.0.is_away.store(true, Ordering::Relaxed);
    *AHEAD.lock().unwrap() = Duration::from_secs(20 * 3600);
    assert!(keeper.turn(true).await.is_err());
    assert!(!certificates.renew(&shelf.stored(), clock()).unwrap(), "it was renewed already");
}

#[tokio::test]
async fn a_replica_whose_clock_is_far_behind_touches_nothing() {
    let shelf = Shelf::default();
    let (mut keeper, _) = shelf.keeper();
    keeper.turn(true).await.unwrap();
    let stored = shelf.stored();
    *shelf.0.created.lock().unwrap() = Some(SystemTime::now());
    let behind = || SystemTime::now() - Duration::from_secs(300 * 24 * 3600);
    let mut wrong = Keeper::new(shelf.clone(), Arc::default(), behind);
    assert!(matches!(wrong.turn(true).await, Err(StoreError::Clock)));
    assert_eq!(shelf.stored(), stored);
}
