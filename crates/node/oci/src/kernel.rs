//! The system calls that no safe wrapper covers as we need them.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// A `File` view of a descriptor that someone else owns: reading and writing without closing.
pub(crate) struct BorrowedFile<'a> {
    file: ManuallyDrop<File>,
    _owner: std::marker::PhantomData<&'a OwnedFd>,
}

impl Deref for BorrowedFile<'_> {
    type Target = File;
    fn deref(&self) -> &File {
        &self.file
    }
}

impl io::Read for BorrowedFile<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self.file).read(buf)
    }
}

impl io::Write for BorrowedFile<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        (&*self.file).write(data)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn borrow_file(fd: &OwnedFd) -> BorrowedFile<'_> {
    // SAFETY: the descriptor is open for as long as the borrow lives, and `ManuallyDrop` keeps this `File`
    // from closing what it does not own.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd.as_raw_fd()) });
    BorrowedFile { file, _owner: std::marker::PhantomData }
}

pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd.as_raw_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_raw_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

pub(crate) fn set_window_size(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize from the pointer, which is valid for the call.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
