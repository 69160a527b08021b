use super::*;
use crate::netlink::Message;

fn key(byte: u8) -> PublicKey {
    PublicKey([byte; 32])
}

fn peer(endpoint: &str, allowed: &[&str]) -> CipherPeer {
    let endpoint = Some(endpoint.parse().unwrap());
    CipherPeer { endpoint, allowed: allowed.iter().map(|net| net.parse().unwrap()).collect() }
}

/// What an attribute takes: its length, its kind, its value, and what fills up to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | 0x8000, &parts.concat())
}

fn read(messages: &[Vec<Vec<u8>>]) -> Device {
    let mut device = Device::default();
    for message in messages {
        let message = Message { kind: 30, body: message.concat() };
        merge(&mut device, message.content(0));
    }
    device
}

#[test]
fn a_peer_is_written_as_the_kernel_reads_it() {
    let wanted = peer("172.16.0.2:51820", &["10.42.2.0/24"]);
    let [request] = &set_peers("towwg0", &[(key(7), Change::Set(&wanted))])[..] else { panic!("one request") };
    let endpoint = [2, 0, 0xca, 0x6c, 172, 16, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
    let range = [attribute(1, &[2, 0]), attribute(2, &[10, 42, 2, 0]), attribute(3, &[24])];
    let one = [attribute(1, &[7; 32]), attribute(3, &[2, 0, 0, 0]), attribute(4, &endpoint)];
    let one = [&one[..], &[nested(9, &[nested(0, &range)])]].concat();
    let expected = [vec![1, 1, 0, 0], attribute(2, b"towwg0\0"), nested(8, &[nested(0, &one)])].concat();
    assert_eq!(request.clone().into_bytes(), expected);
}

#[test]
fn the_request_for_a_key_ends_with_it() {
    let private = PrivateKey::generate().unwrap();
    let bytes = set_key("towwg1", &private, 51821).into_bytes();
    let expected = [
        vec![1, 1, 0, 0],
        attribute(2, b"towwg1\0"),
        attribute(6, &51821u16.to_ne_bytes()),
        attribute(7, &[0; 4]),
        attribute(3, private.bytes().as_slice()),
    ];
    assert_eq!(bytes, expected.concat());
}

#[test]
fn an_answer_is_read_whole_though_it_comes_in_parts_and_the_private_key_is_not_kept() {
    let v6 =
        [&[10, 0, 0xca, 0x6d][..], &[0; 4], &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], &[0; 4]].concat();
    let range = |address: &[u8], length: u8| {
        nested(0, &[attribute(1, &[0, 0]), attribute(2, address), attribute(3, &[length])])
    };
    let handshake = [1_700_000_000u64.to_ne_bytes(), 5u64.to_ne_bytes()].concat();
    let told = [
        attribute(1, &[7; 32]),
        attribute(2, &[0; 32]),
        attribute(4, &v6),
        attribute(5, &25u16.to_ne_bytes()),
        attribute(6, &handshake),
        attribute(7, &9u64.to_ne_bytes()),
        attribute(8, &8u64.to_ne_bytes()),
        nested(9, &[range(&[10, 42, 2, 0], 24)]),
        attribute(10, &1u32.to_ne_bytes()),
    ];
    let never = [attribute(1, &[8; 32]), attribute(6, &[0; 16])];
    let first = vec![
        attribute(1, &3u32.to_ne_bytes()),
        attribute(2, b"towwg0\0"),
        attribute(3, &[1; 32]),
        attribute(4, &[2; 32]),
        attribute(6, &51820u16.to_ne_bytes()),
        nested(8, &[nested(0, &told)]),
    ];
    let rest = [attribute(1, &[7; 32]), nested(9, &[range(&[0xfd; 16], 128)])];
    let second = vec![attribute(2, b"towwg0\0"), nested(8, &[nested(0, &rest), nested(0, &never)])];
    let device = read(&[first, second]);
    let expected = Peer {
        peer: peer("[fd00::2]:51821", &["10.42.2.0/24", "fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd/128"]),
        keepalive: 25,
        handshake: Some(SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 5)),
        received: 9,
        sent: 8,
    };
    assert_eq!((device.public_key, device.port), (Some(key(2)), 51820));
    assert_eq!(device.peers, [(key(7), expected), (key(8), Peer::default())].into());
    assert!(!format!("{device:?}").contains("1, 1, 1, 1"));
}

#[test]
fn many_peers_take_several_requests_and_none_is_cut() {
    let wanted = peer("[fd00::2]:51820", &["10.42.2.0/24", "fd00:42:2::/64"]);
    let keys: Vec<_> = (1..=2_000u32).map(|n| PublicKey(std::array::from_fn(|i| n.to_be_bytes()[i % 4]))).collect();
    let changes: Vec<_> = keys.iter().map(|key| (*key, Change::Set(&wanted))).collect();
    let requests = set_peers("towwg0", &changes);
    assert!(requests.len() > 5 && requests.iter().all(|request| request.length() < 64 * 1024 - 256));
    // What is asked for has the form of what is told.
    let mut device = Device::default();
    for request in requests {
        let body = request.into_bytes();
        merge(&mut device, Message { kind: 30, body: body[4..].to_vec() }.content(0));
    }
    assert_eq!(device.peers.len(), keys.len());
    assert!(device.peers.values().all(|peer| peer.peer == wanted));
}

#[test]
fn an_answer_that_is_cut_short_anywhere_is_no_panic() {
    let wanted = peer("[fd00::2]:51820", &["10.42.2.0/24"]);
    let whole = set_peers("towwg0", &[(key(7), Change::Set(&wanted))]).remove(0).into_bytes();
    for length in 0..whole.len() {
        let mut device = Device::default();
        merge(&mut device, Message { kind: 30, body: whole[..length].to_vec() }.content(4));
        for inner in 4..length {
            merge_peer(&mut device.peers, Message { kind: 30, body: whole[inner..length].to_vec() }.content(0));
        }
    }
}

#[test]
fn what_else_can_become_of_a_peer_names_nothing_but_that() {
    let list = |change| set_peers("w", &[(key(7), change)]).remove(0).into_bytes();
    let around = |parts: &[Vec<u8>]| [vec![1, 1, 0, 0], attribute(2, b"w\0"), nested(8, &[nested(0, parts)])].concat();
    let of = |flags: u8| vec![attribute(1, &[7; 32]), attribute(3, &[flags, 0, 0, 0])];
    assert_eq!(list(Change::Remove), around(&of(1)));
    assert_eq!(list(Change::KeepAlive(5)), around(&[&of(4)[..], &[attribute(5, &[5, 0])]].concat()));
}
