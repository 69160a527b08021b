//! What is written on the node's end of a pod's pair (`IFLA_IFALIAS`): for people to read, and enough to make a lease
//! anew that was lost.
//!
//! ```text
//! towpath:CONTAINER/INTERFACE MODE ADDRESS,GATEWAY ADDRESS,GATEWAY
//! ```
//!
//! Behind it stands the Ethernet address of a pod that asked for one.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::lease::{AttachmentId, Lease, LeasedAddress};
use crate::state::Attachment;

/// What begins each.
const PREFIX: &str = "towpath:";
/// The kernel takes no longer one (`IFALIASZ`, `linux/if.h`, less the zero at its end). With the longest addresses there
/// is room for the ids that runtimes give, which have 64 characters.
const LONGEST: usize = 255;

/// What is written on the link of a lease. Where its container has so long an id that there is no room for all, the
/// rest is left out.
pub fn write(lease: &Lease) -> String {
    let name = format!("{PREFIX}{}", lease.attachment());
    let addresses = lease.addresses.iter().map(|leased| format!(" {},{}", leased.address, leased.gateway));
    let all = addresses.fold(format!("{name} {}", lease.mode), |text, address| text + &address);
    let all = lease.mac.iter().fold(all, |text, mac| format!("{text} {mac}"));
    if all.len() <= LONGEST { all } else { name }
}

/// What a link of this name and MTU tells of its lease; nothing where the link is none of ours.
pub fn read(alias: &str, link: &str, mtu: u32) -> Option<Lease> {
    let mut words = alias.strip_prefix(PREFIX)?.split(' ');
    let (container, interface) = words.next()?.split_once('/')?;
    let attachment = AttachmentId { container: container.to_owned(), interface: interface.to_owned() };
    if attachment.host_interface() != link {
        return None;
    }
    let mut lease = Lease { mtu, ..Lease::unknown(&attachment) };
    if let Some(mode) = words.next().and_then(mode_named) {
        lease.mode = mode;
        lease.mac = words.clone().find_map(|word| word.parse().ok());
        lease.addresses = words.filter_map(leased).collect();
    }
    Some(lease)
}

fn mode_named(text: &str) -> Option<Attachment> {
    let all = [Attachment::Routed, Attachment::LinkLocal, Attachment::Bridge];
    all.into_iter().find(|mode| mode.to_string() == text)
}

fn leased(text: &str) -> Option<LeasedAddress> {
    let (address, gateway) = text.split_once(',')?;
    Some(LeasedAddress { address: address.parse::<IpNet>().ok()?, gateway: gateway.parse::<IpAddr>().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(container: &str, mode: Attachment) -> Lease {
        let id = AttachmentId { container: container.to_owned(), interface: "eth0".to_owned() };
        let leased = |(address, gateway): (&str, &str)| LeasedAddress {
            address: address.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
        };
        let addresses = [
            ("255.255.255.254/32", "255.255.255.253"),
            ("fdff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/128", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:fffd"),
        ];
        Lease { mode, mtu: 1450, addresses: addresses.map(leased).into(), ..Lease::unknown(&id) }
    }

    #[test]
    fn a_lease_is_found_again_on_its_link_and_on_no_other() {
        for mode in [Attachment::Routed, Attachment::LinkLocal, Attachment::Bridge] {
            for mac in [None, "02:00:5e:10:00:01".parse().ok()] {
                let lease = Lease { mac, ..lease(&"a".repeat(64), mode) };
                let text = write(&lease);
                assert!(text.len() <= LONGEST, "{text}");
                assert_eq!(read(&text, &lease.host_interface, 1450).as_ref(), Some(&lease));
            }
            let text = write(&lease("a", mode));
            assert_eq!(read(&text, "tow000000000000", 1450), None);
        }
    }

    #[test]
    fn what_has_no_room_or_no_sense_is_left_out() {
        let long = lease(&"b".repeat(240), Attachment::Bridge);
        let read_back = read(&write(&long), &long.host_interface, 9).unwrap();
        assert_eq!((read_back.container_id, read_back.addresses.len()), (long.container_id.clone(), 0));
        let link = lease("c", Attachment::Bridge).host_interface;
        for text in ["towpath:c/eth0", "towpath:c/eth0 Sideways 10.0.0.1/24,10.0.0.2", "towpath:c/eth0 Bridge 10,x y"] {
            assert_eq!(read(text, &link, 0).unwrap().addresses, [], "{text}");
        }
        for text in ["", "towpath:", "towpath:c", "c/eth0 Bridge"] {
            assert_eq!(read(text, &link, 0), None, "{text}");
        }
    }
}
