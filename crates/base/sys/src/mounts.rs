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
    /// What lies over each other in an overlay that cannot be written to, topmost first.
    pub layers: Vec<PathBuf>,
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
            layers: fields.get(end + 3).map(|options| layers(options)).unwrap_or_default(),
        })
    };
    mountinfo.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// By an overlay's own options.
fn layers(options: &[u8]) -> Vec<PathBuf> {
    let mut options = options.split(|byte| *byte == b',');
    if options.clone().any(|option| option.starts_with(b"upperdir=")) {
        return Vec::new();
    }
    let lower = options.find_map(|option| option.strip_prefix(b"lowerdir="));
    lower.into_iter().flat_map(|lower| lower.split(|byte| *byte == b':')).map(unescape).collect()
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

/// What a server exports; `source` is `server:path`, `data` the file system's own options, `addr=` among them.
pub fn mount_nfs(source: &str, path: &Path, read_only: bool, data: &str) -> io::Result<()> {
    let flags = if read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    let kind = if data.split(',').any(|option| option.ends_with("vers=3")) { "nfs" } else { "nfs4" };
    mount(Some(source), path, Some(kind), flags, Some(data)).map_err(Into::into)
}

/// What the layers of an image hold together, topmost first; nothing of it can be changed or executed.
pub fn mount_layers(path: &Path, layers: &[PathBuf]) -> io::Result<()> {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    match layers {
        [] => Err(io::Error::new(io::ErrorKind::InvalidInput, "the image has no layers")),
        // An overlay has two directories at least.
        [layer] => {
            mount(Some(layer), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            mount(None::<&str>, path, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags, None::<&str>)?;
            Ok(())
        }
        layers => {
            let layers: Vec<_> = layers.iter().map(|layer| layer.to_string_lossy()).collect();
            let options = format!("lowerdir={}", layers.join(":"));
            mount(Some("overlay"), path, Some("overlay"), flags, Some(options.as_str())).map_err(Into::into)
        }
    }
}

/// Sees to it that what is mounted below a directory arrives wherever that is mounted, and the other way round: the
/// directory becomes a mount of its own where the one that it is on is not shared. `dir` is canonical.
pub fn share(dir: &Path) -> io::Result<()> {
    let all = all()?;
    if of(&all, dir).is_some_and(|mounted| mounted.shared) {
        return Ok(());
    }
    if !all.iter().any(|mounted| mounted.at == dir) {
        mount(Some(dir), dir, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    }
    mount(None::<&str>, dir, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>).map_err(Into::into)
}

/// Whether something is mounted at that very path, which is canonical.
pub fn is_mounted(path: &Path) -> io::Result<bool> {
    Ok(all()?.iter().any(|mounted| mounted.at == path))
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
        let mounted =
            |at: &str, shared, kind: &str| Mounted { at: at.into(), shared, kind: kind.into(), layers: Vec::new() };
        assert_eq!(mounts, [mounted("/", true, "ext4"), mounted("/d/a b", false, "tmpfs")]);
        assert_eq!(of(&mounts, Path::new("/d/a b/c")), mounts.last());
        assert_eq!(of(&mounts, Path::new("/d/a")), mounts.first());
        assert_eq!(layers(b"ro,lowerdir=/a\\040b:/c,index=off"), [Path::new("/a b"), Path::new("/c")]);
        assert_eq!(layers(b"rw,lowerdir=/a,upperdir=/b,workdir=/c"), Vec::<PathBuf>::new());
        assert_eq!(unescape(b"a\\9b\\04"), PathBuf::from("a\\9b\\04"));
    }

    #[test]
    fn layers_lie_over_each_other_and_go_with_what_is_below_a_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().canonicalize().expect("its path");
        let layer = |name: &str, files: &[(&str, &str)]| {
            let layer = dir.join(name);
            std::fs::create_dir(&layer).expect("a layer");
            files.iter().for_each(|(file, text)| std::fs::write(layer.join(file), text).expect("a file"));
            layer
        };
        let layers = [layer("top", &[("a", "top")]), layer("bottom", &[("a", "bottom"), ("b", "bottom")])];
        for (name, count) in [("both", 2), ("one", 1)] {
            let at = layer(name, &[]);
            mount_layers(&at, &layers[..count]).expect("mounted; this needs root");
            assert_eq!(std::fs::read_to_string(at.join("a")).expect("shown"), "top");
            assert_eq!(at.join("b").exists(), count == 2);
            assert!(std::fs::write(at.join("c"), "").is_err() && is_mounted(&at).expect("known"));
        }
        assert!(mount_layers(&dir, &[]).is_err());
        unmount_below(&dir).expect("unmounted");
        assert!(!is_mounted(&dir.join("both")).expect("known") && layers[0].join("a").exists());
    }
}
