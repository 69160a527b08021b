//! The lab: a real Kubernetes on one machine, namespaces as nodes, as a library and a command.
