//! The Go modules that programs are built from, as they are in the checkout, and the keys that they are cached by.

use sha2::{Digest as _, Sha256};

use super::BinariesError;

/// A program of a module.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its file.
    pub name: &'static str,
    /// Its package.
    pub package: &'static str,
}

/// How a module's packages become programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `go build`.
    Build,
    /// `go test -c`.
    Test,
}

/// A module and the programs that it gives.
#[derive(Debug)]
pub struct Module {
    /// Its name, for people.
    pub name: &'static str,
    /// Its files, by their paths in the module.
    pub files: &'static [(&'static str, &'static str)],
    /// Its programs.
    pub programs: &'static [Program],
    /// How they are built.
    pub verb: Verb,
    /// Flags beside those that every module is built with.
    pub flags: &'static [&'static str],
    /// The module whose version the programs carry as Kubernetes' version, if they have one.
    pub version_of: Option<&'static str>,
    /// Files of modules that stand beside the programs.
    pub carried: &'static [Carried],
}

/// A file of a module, as it was published.
#[derive(Debug, Clone, Copy)]
pub struct Carried {
    /// What it is called beside the programs.
    pub name: &'static str,
    /// The module that has it.
    pub module: &'static str,
    /// Where in the module.
    pub path: &'static str,
}

const fn program(name: &'static str, package: &'static str) -> Program {
    Program { name, package }
}

const KUBERNETES_GO_MOD: (&str, &str) = ("go.mod", include_str!("../../go/kubernetes/go.mod"));
const KUBERNETES_GO_SUM: (&str, &str) = ("go.sum", include_str!("../../go/kubernetes/go.sum"));

/// Kubernetes' own programs, and etcd at the version that they are tested with.
pub const KUBERNETES: Module = Module {
    name: "kubernetes",
    files: &[KUBERNETES_GO_MOD, KUBERNETES_GO_SUM],
    programs: &[
        program("etcd", "go.etcd.io/etcd/server/v3"),
        program("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
        program("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
        program("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
        program("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
        program("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
        program("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
        program("agnhost", "k8s.io/kubernetes/test/images/agnhost"),
    ],
    verb: Verb::Build,
    flags: &[],
    version_of: Some("k8s.io/kubernetes"),
    carried: &[],
};

/// containerd.
pub const CONTAINERD: Module = Module {
    name: "containerd",
    files: &[
        ("go.mod", include_str!("../../go/containerd/go.mod")),
        ("go.sum", include_str!("../../go/containerd/go.sum")),
    ],
    programs: &[
        program("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
        program("containerd-shim-runc-v2", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
        program("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
    ],
    verb: Verb::Build,
    flags: &["-tags=no_btrfs,no_devmapper,no_zfs"],
    version_of: None,
    carried: &[],
};

/// CoreDNS with the plugins that a cluster needs.
pub const COREDNS: Module = Module {
    name: "coredns",
    files: &[
        ("go.mod", include_str!("../../go/coredns/go.mod")),
        ("go.sum", include_str!("../../go/coredns/go.sum")),
        ("main.go", include_str!("../../go/coredns/main.go")),
    ],
    programs: &[program("coredns", ".")],
    verb: Verb::Build,
    flags: &[],
    version_of: None,
    carried: &[],
};

/// Upstream's specs.
pub const SPECS: Module = Module {
    name: "specs",
    files: &[
        KUBERNETES_GO_MOD,
        KUBERNETES_GO_SUM,
        ("specs/specs_test.go", include_str!("../../go/kubernetes/specs/specs_test.go")),
    ],
    programs: &[program("e2e.test", "./specs")],
    verb: Verb::Test,
    flags: &[],
    version_of: Some("k8s.io/kubernetes"),
    carried: &[],
};

/// The conformance suite of the network policy API, and the kinds that it is about.
pub const POLICY_API: Module = Module {
    name: "policy-api",
    files: &[
        ("go.mod", include_str!("../../go/policy-api/go.mod")),
        ("go.sum", include_str!("../../go/policy-api/go.sum")),
        ("specs_test.go", include_str!("../../go/policy-api/specs_test.go")),
    ],
    programs: &[program("policy.test", ".")],
    verb: Verb::Test,
    flags: &[],
    version_of: None,
    carried: &[Carried {
        name: "clusternetworkpolicies.yaml",
        module: "sigs.k8s.io/network-policy-api",
        path: "config/crd/experimental/policy.networking.k8s.io_clusternetworkpolicies.yaml",
    }],
};

/// The reference plugins of CNI, and the tool that calls plugins as libcni does.
pub const PLUGINS: Module = Module {
    name: "plugins",
    files: &[("go.mod", include_str!("../../go/plugins/go.mod")), ("go.sum", include_str!("../../go/plugins/go.sum"))],
    programs: &[
        program("cnitool", "github.com/containernetworking/cni/cnitool"),
        program("bandwidth", "github.com/containernetworking/plugins/plugins/meta/bandwidth"),
        program("bridge", "github.com/containernetworking/plugins/plugins/main/bridge"),
        program("firewall", "github.com/containernetworking/plugins/plugins/meta/firewall"),
        program("host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local"),
        program("loopback", "github.com/containernetworking/plugins/plugins/main/loopback"),
        program("portmap", "github.com/containernetworking/plugins/plugins/meta/portmap"),
        program("ptp", "github.com/containernetworking/plugins/plugins/main/ptp"),
        program("tuning", "github.com/containernetworking/plugins/plugins/meta/tuning"),
    ],
    verb: Verb::Build,
    flags: &[],
    version_of: None,
    carried: &[],
};

/// crictl, which speaks the CRI as a kubelet does.
pub const CRI_TOOLS: Module = Module {
    name: "cri-tools",
    files: &[
        ("go.mod", include_str!("../../go/cri-tools/go.mod")),
        ("go.sum", include_str!("../../go/cri-tools/go.sum")),
    ],
    programs: &[program("crictl", "sigs.k8s.io/cri-tools/cmd/crictl")],
    verb: Verb::Build,
    flags: &[],
    version_of: None,
    carried: &[],
};

/// CRI-O's library for CNI, as a command: Debian has no CRI-O.
pub const OCICNI: Module = Module {
    name: "ocicni",
    files: &[
        ("go.mod", include_str!("../../go/ocicni/go.mod")),
        ("go.sum", include_str!("../../go/ocicni/go.sum")),
        ("main.go", include_str!("../../go/ocicni/main.go")),
    ],
    programs: &[program("ocicni", ".")],
    verb: Verb::Build,
    flags: &[],
    version_of: None,
    carried: &[],
};

impl Module {
    fn go_mod(&self) -> &'static str {
        self.files.iter().find(|(name, _)| *name == "go.mod").map_or("", |(_, text)| text)
    }

    /// The Go version that the module asks for.
    ///
    /// # Errors
    /// When its go.mod names none.
    pub fn go_version(&self) -> Result<&'static str, BinariesError> {
        let line = self.go_mod().lines().find_map(|line| line.strip_prefix("go "));
        line.map(str::trim).ok_or(BinariesError::GoMod { module: self.name, what: "go" })
    }

    /// The version of a module that this one requires.
    ///
    /// # Errors
    /// When its go.mod names none.
    pub fn required(&self, module: &'static str) -> Result<&'static str, BinariesError> {
        let version = |line: &'static str| {
            line.trim().trim_start_matches("require ").strip_prefix(module)?.strip_prefix(" v")?.split(' ').next()
        };
        self.go_mod().lines().find_map(version).ok_or(BinariesError::GoMod { module: self.name, what: module })
    }

    /// All flags of `go build`.
    ///
    /// # Errors
    /// When a version that they carry is not in go.mod.
    pub fn build_flags(&self) -> Result<Vec<String>, BinariesError> {
        let mut link = "-s -w".to_owned();
        if let Some(module) = self.version_of {
            link += &version_flags(self.required(module)?);
        }
        let mut flags = vec!["-trimpath".to_owned(), "-buildvcs=false".to_owned(), format!("-ldflags={link}")];
        flags.extend(self.flags.iter().map(|flag| (*flag).to_owned()));
        Ok(flags)
    }

    /// What the programs depend on, as the name of a folder.
    ///
    /// # Errors
    /// When a version that they carry is not in go.mod.
    pub fn key(&self) -> Result<String, BinariesError> {
        let flags = self.build_flags()?.join(" ");
        let files = self.files.iter().flat_map(|(name, text)| [name.as_bytes(), text.as_bytes()]);
        let programs = self.programs.iter().flat_map(|program| [program.name.as_bytes(), program.package.as_bytes()]);
        let carried = self.carried.iter().flat_map(|file| [file.name.as_bytes(), file.path.as_bytes()]);
        Ok(digest(files.chain(programs).chain(carried).chain([flags.as_bytes()])))
    }
}

/// Where Kubernetes' programs read their version from; unset, they are v0.0.0 to whoever compares.
fn version_flags(version: &str) -> String {
    let mut parts = version.split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let values = [
        ("gitVersion", format!("v{version}")),
        ("gitMajor", major.to_owned()),
        ("gitMinor", minor.to_owned()),
        ("gitTreeState", "clean".to_owned()),
    ];
    let packages = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];
    let of = |package: &'static str| values.iter().map(move |(name, value)| format!(" -X {package}.{name}={value}"));
    packages.into_iter().flat_map(of).collect::<Vec<_>>().concat()
}

/// A short digest of several texts, each apart from the next.
pub fn digest<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_modules_themselves() {
        assert!(KUBERNETES.required("k8s.io/kubernetes").unwrap().starts_with("1."));
        assert!(COREDNS.required("github.com/coredns/coredns").unwrap().starts_with("1."));
        for module in [&KUBERNETES, &CONTAINERD, &COREDNS, &SPECS, &PLUGINS, &CRI_TOOLS, &OCICNI] {
            assert!(module.go_version().unwrap().starts_with("1."), "{}", module.name);
        }
        assert!(KUBERNETES.build_flags().unwrap().iter().any(|flag| flag.contains("gitMinor=36")));
    }

    #[test]
    fn a_key_depends_on_where_one_part_ends() {
        let key = |parts: [&'static str; 2]| digest(parts.into_iter().map(str::as_bytes));
        assert_ne!(key(["ab", "c"]), key(["a", "bc"]));
        assert_ne!(KUBERNETES.key().unwrap(), SPECS.key().unwrap());
    }
}
