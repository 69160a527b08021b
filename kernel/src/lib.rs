//! Towpath's only syscalls for networking: netlink, nftables, namespaces, sysctls.
