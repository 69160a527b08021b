use super::*;

const HOUR: Duration = LEEWAY;

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn names(authorities: &Authorities) -> Vec<&str> {
    authorities.0.iter().map(|authority| authority.name.as_str()).collect()
}

fn signer(authorities: &Authorities, now: SystemTime) -> &str {
    &authorities.signer(now).unwrap().name
}

/// Turned every hour, as a leader does.
fn turned(authorities: &mut Authorities, from: SystemTime, until: SystemTime) {
    let mut now = from;
    while now < until {
        authorities.turn(now).unwrap();
        now += HOUR;
    }
}

#[test]
fn an_authority_is_made_once() {
    let mut authorities = Authorities::default();
    assert!(authorities.turn(start()).unwrap());
    assert!(!authorities.turn(start()).unwrap());
    assert!(!authorities.turn(start() + DAY * 100).unwrap());
    assert_eq!(authorities.0.len(), 1);
}

#[test]
fn the_next_one_is_published_for_a_day_before_it_signs_and_the_last_one_goes_when_nothing_of_it_is_left() {
    let mut authorities = Authorities::default();
    authorities.turn(start()).unwrap();
    let half = start() + AUTHORITY_LIFE / 2;
    turned(&mut authorities, start(), half + HOUR);
    let [old, new] = names(&authorities)[..] else { panic!("{authorities:?}") };
    assert_eq!(signer(&authorities, half), old);
    assert_eq!(signer(&authorities, half + OVERLAP - HOUR * 3), old);
    assert_eq!(signer(&authorities, half + OVERLAP), new);
    let (old, new) = (old.to_owned(), new.to_owned());
    turned(&mut authorities, half, half + OVERLAP + DAY);
    assert_eq!(names(&authorities), [old, new.clone()], "what the old one signed last is still good");
    turned(&mut authorities, half, half + OVERLAP + DAY * 2 + HOUR);
    assert_eq!(names(&authorities), [new]);
}

#[test]
fn there_is_always_one_that_signs_and_was_known_before() {
    let mut authorities = Authorities::default();
    let mut published = String::new();
    let mut now = start();
    while now < start() + AUTHORITY_LIFE * 3 {
        authorities.turn(now).unwrap();
        let signer = authorities.signer(now).unwrap();
        assert!(published.is_empty() || published.contains(&signer.certificate), "never published before it signs");
        assert!(signer.not_after.time() > now + CERTIFICATE_LIFE);
        published = authorities.published();
        now += HOUR * 20;
    }
}

#[test]
fn after_a_long_absence_a_new_one_signs_at_once() {
    let mut authorities = Authorities::default();
    authorities.turn(start()).unwrap();
    let old = signer(&authorities, start()).to_owned();
    let later = start() + AUTHORITY_LIFE * 2;
    assert!(authorities.turn(later).unwrap());
    assert_ne!(signer(&authorities, later), old);
}

#[test]
fn what_a_clock_that_was_ahead_has_made_is_replaced() {
    let mut authorities = Authorities::default();
    authorities.turn(start() + AUTHORITY_LIFE * 10).unwrap();
    assert!(authorities.turn(start()).unwrap());
    assert_eq!(authorities.0.len(), 1);
    assert!(authorities.signer(start()).is_some());
}

#[test]
fn certificates_are_renewed_when_a_third_is_left_and_when_another_authority_signs() {
    let mut authorities = Authorities::default();
    authorities.turn(start()).unwrap();
    let certificates = Certificates::default();
    assert!(certificates.renew(&authorities, start()).unwrap());
    assert!(!certificates.renew(&authorities, start() + HOUR * 15).unwrap());
    assert!(certificates.renew(&authorities, start() + HOUR * 16).unwrap());
    assert!(certificates.renew(&authorities, start()).unwrap(), "a clock that went back");
    let mut other = Authorities::default();
    other.turn(start() + HOUR).unwrap();
    assert!(certificates.renew(&other, start() + HOUR).unwrap());
}

#[test]
fn a_key_that_belongs_to_another_certificate_is_noticed() {
    let mut authorities = Authorities::default();
    authorities.turn(start()).unwrap();
    let mut other = Authorities::default();
    other.turn(start()).unwrap();
    authorities.0[0].key.clone_from(&other.0[0].key);
    let error = Certificates::default().renew(&authorities, start()).unwrap_err();
    assert!(matches!(error, IssueError::Mismatch(_)), "{error}");
}

#[test]
fn authorities_survive_the_way_through_their_secret() {
    let mut authorities = Authorities::default();
    authorities.turn(start()).unwrap();
    let json = serde_json::to_vec(&authorities).unwrap();
    let read: Authorities = serde_json::from_slice(&json).unwrap();
    assert_eq!(read, authorities);
    assert!(Certificates::default().renew(&read, start()).unwrap());
    assert!(!format!("{authorities:?}").contains("PRIVATE"));
}
