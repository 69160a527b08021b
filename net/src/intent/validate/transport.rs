//! What is asked of transports and their options.

use super::{Check, Draft, Finding};
use crate::intent::CrossingProblem;
use crate::intent::pools::period;
use crate::intent::transport::{Crossing, DraftTunnel, DraftWireGuard, MOST_VNI, ROTATION};
use crate::transport::{Geneve, Transport, Tunnels, Vxlan, WireGuard};

const FIELD: &str = "spec.transport";

impl Check {
    pub(super) fn transport(&mut self, draft: &Draft) -> Tunnels {
        let written = &draft.transport;
        self.crossing(FIELD, written.crossing);
        let uses = |mode| draft.modes().any(|used| used == mode);
        let given = [
            (Transport::Vxlan, "vxlan", written.vxlan.is_some()),
            (Transport::Geneve, "geneve", written.geneve.is_some()),
            (Transport::WireGuard, "wireGuard", written.wire_guard.is_some()),
        ];
        for (mode, name, _) in given.into_iter().filter(|(mode, _, given)| *given && !uses(*mode)) {
            self.0.push(Finding::absent(format!("{FIELD}.{name}"), CrossingProblem::ModeUnused { mode }));
        }
        let (vxlan, geneve) = (Vxlan::default(), Geneve::default());
        let (vni, port) = self.tunnel("vxlan", written.vxlan.as_ref(), (vxlan.vni, vxlan.port));
        let vxlan = Vxlan { vni, port };
        let (vni, port) = self.tunnel("geneve", written.geneve.as_ref(), (geneve.vni, geneve.port));
        let geneve = Geneve { vni, port };
        let wire_guard = self.wire_guard(written.wire_guard.as_ref());
        let tunnels = Tunnels { vxlan, geneve, wire_guard };
        self.ports_differ(&tunnels, uses);
        tunnels
    }

    /// That packets take a way around tunnels only where there is one.
    pub(super) fn crossing(&mut self, field: &str, crossing: Crossing) {
        if crossing.cross_subnet_only && !crossing.mode.is_tunnel() {
            self.0.push(Finding::new(format!("{field}.crossSubnetOnly"), "true", CrossingProblem::NoTunnel));
        }
    }

    fn tunnel(&mut self, name: &str, written: Option<&DraftTunnel>, usual: (u32, u16)) -> (u32, u16) {
        let Some(written) = written else { return usual };
        let vni = self.number(format!("{FIELD}.{name}.vni"), written.vni, usual.0, MOST_VNI);
        let port = self.number(format!("{FIELD}.{name}.port"), written.port, usual.1, u16::MAX);
        (vni, port)
    }

    fn wire_guard(&mut self, written: Option<&DraftWireGuard>) -> WireGuard {
        let usual = WireGuard::default();
        let Some(written) = written else { return usual };
        let port = self.number(format!("{FIELD}.wireGuard.port"), written.port, usual.port, u16::MAX - 1);
        let seconds = written.key_rotation.as_deref().map(|text| {
            let seconds = period(text).filter(|seconds| ROTATION.contains(seconds));
            if seconds.is_none() {
                self.0.push(Finding::new(format!("{FIELD}.wireGuard.keyRotation"), text, CrossingProblem::Rotation));
            }
            seconds
        });
        WireGuard { port, rotation_seconds: seconds.flatten() }
    }

    /// A number from 1 to `most`; `usual` where nothing is written.
    fn number<T>(&mut self, field: String, written: Option<i64>, usual: T, most: T) -> T
    where
        T: TryFrom<i64> + Copy + Ord + Into<u32>,
    {
        let Some(number) = written else { return usual };
        let good = T::try_from(number).ok().filter(|good| number >= 1 && *good <= most);
        good.unwrap_or_else(|| {
            self.0.push(Finding::new(field, number, CrossingProblem::NumberOutside { most: most.into() }));
            usual
        })
    }

    /// No two tunnels that are used listen on one UDP port.
    fn ports_differ(&mut self, tunnels: &Tunnels, uses: impl Fn(Transport) -> bool) {
        let (wire_guard, next) = (tunnels.wire_guard.port, tunnels.wire_guard.port.saturating_add(1));
        let ports = [
            (Transport::Vxlan, "vxlan", tunnels.vxlan.port),
            (Transport::Geneve, "geneve", tunnels.geneve.port),
            (Transport::WireGuard, "wireGuard", wire_guard),
            (Transport::WireGuard, "wireGuard", next),
        ];
        let listening: Vec<_> = ports.into_iter().filter(|(mode, ..)| uses(*mode)).collect();
        for (index, (mode, name, port)) in listening.iter().enumerate() {
            if let Some((other, ..)) = listening[..index].iter().find(|(m, _, earlier)| m != mode && earlier == port) {
                let problem = CrossingProblem::PortTwice { other: *other };
                self.0.push(Finding::new(format!("{FIELD}.{name}.port"), port, problem));
            }
        }
    }
}
