//! The head of a packet: who sends what to whom.

use std::net::IpAddr;

use towpath_net::policy::evaluate::Packet;

/// The numbers of TCP, UDP and SCTP (IANA): each begins with the two ports.
const WITH_PORTS: [u8; 3] = [6, 17, 132];
/// Headers of IPv6 that others follow (RFC 8200, section 4): hop-by-hop options, routing, destination options; those of
/// fragments; and that of authentication (RFC 4302), whose length counts otherwise.
const FOLLOWED: [u8; 3] = [0, 43, 60];
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
/// Where the offset of a fragment stands in IPv4, and which bits of it (RFC 791, section 3.1).
const OFFSET: usize = 6;
const OFFSET_BITS: u16 = 0x1fff;
/// The same of IPv6 (RFC 8200, section 4.5): 13 bits before three others.
const OFFSET_BITS_V6: u16 = 0xfff8;

/// Reads a packet from its IP header on, and the port that it comes from. Nothing where it is cut within what is read; only
/// the first fragment has ports.
pub fn read(bytes: &[u8]) -> Option<(Packet, Option<u16>)> {
    match bytes.first()? >> 4 {
        4 => v4(bytes),
        6 => v6(bytes),
        _ => None,
    }
}

fn v4(bytes: &[u8]) -> Option<(Packet, Option<u16>)> {
    let length = usize::from(bytes.first()? & 0xf) * 4;
    let address = |at| chunk::<4>(bytes, at).map(IpAddr::from);
    let is_first = number(bytes, OFFSET)? & OFFSET_BITS == 0;
    let behind = if is_first { bytes.get(length..)? } else { &[] };
    Some(packet(address(12)?, address(16)?, *bytes.get(9)?, behind))
}

fn v6(bytes: &[u8]) -> Option<(Packet, Option<u16>)> {
    let address = |at| chunk::<16>(bytes, at).map(IpAddr::from);
    let (mut protocol, mut rest) = (*bytes.get(6)?, bytes.get(40..)?);
    loop {
        let length = match protocol {
            FRAGMENT if number(rest, 2)? & OFFSET_BITS_V6 != 0 => {
                return Some(packet(address(8)?, address(24)?, *rest.first()?, &[]));
            }
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(*rest.get(1)?) + 2) * 4,
            other if FOLLOWED.contains(&other) => (usize::from(*rest.get(1)?) + 1) * 8,
            _ => return Some(packet(address(8)?, address(24)?, protocol, rest)),
        };
        protocol = *rest.first()?;
        rest = rest.get(length..)?;
    }
}

fn packet(source: IpAddr, destination: IpAddr, protocol: u8, behind: &[u8]) -> (Packet, Option<u16>) {
    let port = |at| number(behind, at).filter(|_| WITH_PORTS.contains(&protocol));
    (Packet { source, destination, protocol, port: port(2) }, port(0))
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    chunk(bytes, at).map(u16::from_be_bytes)
}

fn chunk<const LENGTH: usize>(bytes: &[u8], at: usize) -> Option<[u8; LENGTH]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: [u8; 4] = [0x9c, 0x40, 0, 80];

    fn four(protocol: u8, offset: u8, behind: &[u8]) -> Vec<u8> {
        [&[0x46, 0, 0, 40, 0, 1, 0, offset, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 1], behind].concat()
    }

    fn six(next: u8, behind: &[u8]) -> Vec<u8> {
        let address = |last| [[0xfd; 1].as_slice(), &[0; 14], &[last]].concat();
        [&[0x60, 0, 0, 0, 0, 20, next, 64][..], &address(1), &address(2), behind].concat()
    }

    #[track_caller]
    fn check(bytes: &[u8], protocol: u8, ports: Option<(u16, u16)>) {
        let (packet, source_port) = read(bytes).unwrap();
        assert_eq!(packet.protocol, protocol);
        assert_eq!(source_port.zip(packet.port), ports);
        assert!(["10.0.0.1", "fd00::1"].contains(&packet.source.to_string().as_str()), "{packet:?}");
        assert!(["10.0.0.2", "fd00::2"].contains(&packet.destination.to_string().as_str()), "{packet:?}");
    }

    #[test]
    fn ports_are_found_behind_options_and_headers_that_others_follow() {
        let ports = Some((40000, 80));
        check(&four(6, 0, &PORTS), 6, ports);
        check(&four(1, 0, &PORTS), 1, None);
        check(&four(17, 9, &PORTS), 17, None);
        check(&six(17, &PORTS), 17, ports);
        let options = [&[43, 0, 0, 0, 0, 0, 0, 0][..], &[51, 1, 0, 0, 0, 0, 0, 0], &[0; 8]].concat();
        assert!(read(&six(0, &options)).is_none(), "cut within the header of authentication");
        let authentication = [&[60, 4][..], &[0; 22]].concat();
        let behind = [&[51, 0, 0, 0, 0, 0, 0, 0][..], &authentication, &[132, 0, 0, 0, 0, 0, 0, 0], &PORTS].concat();
        check(&six(0, &behind), 132, ports);
        check(&six(44, &[&[6, 0, 0, 1, 0, 0, 0, 1][..], &PORTS].concat()), 6, ports);
        check(&six(44, &[&[6, 0, 0, 9, 0, 0, 0, 1][..], &PORTS].concat()), 6, None);
    }

    #[test]
    fn what_is_cut_anywhere_is_no_panic() {
        for whole in [four(6, 0, &PORTS), six(44, &[&[6, 0, 0, 1, 0, 0, 0, 1][..], &PORTS].concat())] {
            for length in 0..whole.len() {
                if let Some((packet, _)) = read(&whole[..length]) {
                    assert_eq!(packet.port, None, "{length}");
                }
            }
        }
        assert_eq!(read(&[0x50; 60]), None);
    }
}
