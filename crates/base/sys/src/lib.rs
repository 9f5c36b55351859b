//! The kernel's interfaces behind safe types: netlink, nftables, network namespaces, kernel parameters, echoes, connection
//! tracking. Pure mechanism: nothing here knows Kubernetes. Any component may depend on it.
// Here and in node/oci only: system calls without a safe wrapper. Every block says why it is sound.
#![allow(unsafe_code)]

pub mod bpf;
mod checksum;
pub mod conntrack;
pub mod crash;
pub mod fdpass;
pub mod folder;
pub mod icmp;
pub mod ip;
pub mod mounts;
pub mod neighbour;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod process;
pub mod route;
pub mod sockopt;
pub mod stalls;
pub mod sysctl;
