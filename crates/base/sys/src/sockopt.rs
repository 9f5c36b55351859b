//! Socket options whose value is one number, for either family.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Not in the libc crate for every target.
const IP_PMTUDISC_PROBE: libc::c_int = 3;

/// Lets a socket be bound to `address` though no link has it.
pub fn freebind(socket: BorrowedFd<'_>, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => set(socket, libc::IPPROTO_IP, libc::IP_FREEBIND, 1),
        IpAddr::V6(_) => set(socket, libc::IPPROTO_IPV6, libc::IPV6_FREEBIND, 1),
    }
}

/// Sends whole packets as large as the link takes, whatever is believed of the path.
pub(crate) fn never_fragment(socket: BorrowedFd<'_>, v4: bool) -> io::Result<()> {
    match v4 {
        true => set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, IP_PMTUDISC_PROBE),
        false => set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, IP_PMTUDISC_PROBE),
    }
}

fn set(socket: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option's value is one int; the pointer is to a live local of exactly that size, and the descriptor is
    // open for the whole call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
