//! What arrives in the namespaces of pods.

use std::fs;

use towpath_kernel::netns::Namespace;

/// What arrived in a namespace since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    udp4: u64,
    udp6: u64,
    /// Of both families.
    tcp: u64,
}

impl Arrived {
    /// Reads `Udp` and `Tcp` of `/proc/net/snmp`, and `Udp6` of `/proc/net/snmp6`.
    pub fn read(namespace: &Namespace) -> Self {
        let texts = namespace
            .run(|| ["snmp", "snmp6"].map(|file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap()));
        let [both, six] = texts.unwrap();
        let of = |kind: &str, name: &str| {
            let mut lines = both.lines().filter(|line| line.starts_with(kind));
            let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
            let at = names.split(' ').position(|one| one == name).unwrap();
            values.split(' ').nth(at).unwrap().parse::<u64>().unwrap()
        };
        let of6 = |name: &str| -> u64 {
            let line = six.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Self { udp4: of("Udp:", "NoPorts"), udp6: of6("Udp6NoPorts"), tcp: of("Tcp:", "InSegs") }
    }

    /// Whether something of each kind arrived.
    pub fn has_all(self) -> bool {
        self.udp4 > 0 && self.udp6 > 0 && self.tcp > 0
    }
}
