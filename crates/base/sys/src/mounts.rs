//! The mount table: what is mounted where, and taking it away again.

use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// One line of `mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    pub at: PathBuf,
    /// What is mounted below it arrives in other namespaces, too.
    pub shared: bool,
    /// The kind of file system.
    pub kind: String,
}

/// Every mount of the calling process's namespace, in the order of mounting.
pub fn all() -> io::Result<Vec<Mounted>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// Lines that are none are left out.
pub fn parse(mountinfo: &[u8]) -> Vec<Mounted> {
    let line = |line: &[u8]| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let end = fields.iter().position(|field| *field == b"-")?;
        let optional = fields.get(6..end)?;
        Some(Mounted {
            at: unescape(fields.get(4)?),
            shared: optional.iter().any(|field| field.starts_with(b"shared:")),
            kind: String::from_utf8_lossy(fields.get(end + 1)?).into_owned(),
        })
    };
    mountinfo.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// The mount that a path is on: of those that hold it the innermost, of those the last.
pub fn of<'a>(mounts: &'a [Mounted], path: &Path) -> Option<&'a Mounted> {
    mounts.iter().filter(|mounted| path.starts_with(&mounted.at)).max_by_key(|mounted| mounted.at.components().count())
}

/// Takes away all that is mounted at a directory or below it, the last first. `dir` is canonical.
pub fn unmount_below(dir: &Path) -> io::Result<()> {
    for mounted in all()?.into_iter().rev().filter(|mounted| mounted.at.starts_with(dir)) {
        unmount(&mounted.at)?;
    }
    Ok(())
}

/// Until nothing is mounted there any more; what is in use goes with its last user.
pub fn unmount(path: &Path) -> io::Result<()> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {} // there may be another below it
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A file system in memory of at most that many bytes, for files of anybody, none of which is a device.
pub fn mount_memory(path: &Path, bytes: u64) -> io::Result<()> {
    let options = format!("mode=777,size={bytes}");
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).map_err(Into::into)
}

/// The kernel writes blanks and such as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let digits = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = &after[3..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_their_blanks_and_others_left_out() {
        let text =
            b"1 0 0:1 / / rw shared:1 - ext4 a rw\n2 1 0:2 / /d/a\\040b rw master:1 - tmpfs t rw\n\nx\n1 2 3 4 5 -\n";
        let mounts = parse(text);
        let mounted = |at: &str, shared, kind: &str| Mounted { at: at.into(), shared, kind: kind.into() };
        assert_eq!(mounts, [mounted("/", true, "ext4"), mounted("/d/a b", false, "tmpfs")]);
        assert_eq!(of(&mounts, Path::new("/d/a b/c")), mounts.last());
        assert_eq!(of(&mounts, Path::new("/d/a")), mounts.first());
        assert_eq!(unescape(b"a\\9b\\04"), PathBuf::from("a\\9b\\04"));
    }
}
