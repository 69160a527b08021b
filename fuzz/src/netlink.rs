//! What the kernel says. It is trusted, but not to be of the release that this code was written for.

use towpath_kernel::netlink::attributes::Attributes;
use towpath_kernel::netlink::{Content, Message, messages};
use towpath_kernel::testing::decode;

/// How deep attributes are nested at most in what is looked at.
const DEPTH: usize = 8;

/// Datagrams of `NETLINK_ROUTE`.
pub fn route(data: &[u8]) {
    for message in messages(data) {
        decode::route(&message);
        for header in [0, 4, 12, 16] {
            rewrite(message.content(header), DEPTH);
        }
    }
}

/// Datagrams of `NETLINK_NETFILTER`.
pub fn nftables(data: &[u8]) {
    let messages: Vec<_> = messages(data).collect();
    decode::nftables(&messages);
    for message in &messages {
        rewrite(message.content(4), DEPTH);
    }
}

/// What is written anew from what was read reads the same.
fn rewrite(content: Content<'_>, depth: usize) {
    let mut written = Attributes::after(&[]);
    for attribute in content.iter() {
        written.put(attribute.kind, attribute.value);
        if depth > 0 {
            rewrite(attribute.content(), depth - 1);
        }
        let _ = (attribute.number(), attribute.text(), attribute.address());
    }
    let again = Message { kind: 0, body: written.into_bytes() };
    assert!(again.attributes(0).eq(content.iter()), "{again:?}");
}
