use std::net::{Ipv4Addr, SocketAddr};

use towpath_net::policy::bind::Leases;
use towpath_net::policy::bundle::Bundle;

use super::*;
use crate::policy::Meanwhile;
use crate::testing::isolated;

fn answer(number: u32) -> (Family, Key) {
    let at = |first: u32, port| SocketAddr::new(Ipv4Addr::from_bits(first + number).into(), port);
    (Family::V4, Key::of_packets(at(0x0a00_0000, 80), at(0x0b00_0000, 5000)))
}

#[test]
fn as_many_answers_end_as_there_is_room_for() {
    isolated("policy::cut::tests::as_many_answers_end_as_there_is_room_for", || {
        let bundle = Bundle { is_enforced: true, ..Bundle::default() };
        let mut table = PolicyTable::open().unwrap();
        table.load(&bundle, &Leases::new(), Meanwhile::Closed).unwrap();
        let count = |table: &mut PolicyTable| {
            let mut count = 0;
            table.each_element(cut_set(Family::V4), |_| count += 1).unwrap();
            count
        };
        let ended = table.end((0..MOST - 2).map(answer).collect()).unwrap();
        assert!(ended.written.largest <= 2 * SHORT && ended.left_out == 0, "{ended:?}");
        assert_eq!(count(&mut table), MOST - 2);
        assert_eq!(table.end((MOST - 4..MOST + 4).map(answer).collect()).unwrap().left_out, 4);
        assert_eq!(count(&mut table), MOST);
        // What ends already does so for longer.
        let ended = table.end(vec![answer(0), answer(MOST + 9)]).unwrap();
        assert_eq!((ended.written.transactions, ended.left_out), (1, 1));
        assert_eq!(count(&mut table), MOST);
    });
}

#[test]
fn answers_that_ended_for_long_enough_make_room_for_others() {
    let (mut ended, begun) = (Ended::default(), Instant::now());
    assert_eq!(ended.insert(&mut (0..MOST).map(answer).collect(), begun), 0);
    let mut others: Vec<_> = (MOST..MOST + 9).map(answer).collect();
    let mut early = others.clone();
    assert_eq!((ended.insert(&mut early, begun + stay(Family::V4) / 2), early.len()), (9, 0));
    assert_eq!((ended.insert(&mut others, begun + stay(Family::V4)), others.len()), (0, 9));
    assert_eq!(ended.until.len(), 9);
}
