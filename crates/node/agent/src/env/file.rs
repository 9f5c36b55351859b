//! Variables that a file in one of the pod's volumes holds, written by an earlier container: `NAME='value'` lines of shell.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::env::EnvError;

/// Bytes of such a file.
const LIMIT: u64 = 1 << 20;
const BLANK: [char; 2] = [' ', '\t'];

/// The file at `path` in the volume at `root`, which a container filled: no link in it leads out, nothing but a file is read.
pub(super) fn read(root: &Path, path: &str) -> Result<String, EnvError> {
    let unreadable = |error: &dyn std::fmt::Display| {
        tracing::debug!(path, root = %root.display(), %error, "file of variables not read");
        EnvError::File
    };
    let root = File::open(root).map_err(|error| unreadable(&error))?;
    // A pipe that nobody writes to would be waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(openat2(root, path, flags, Mode::empty(), inside).map_err(|error| unreadable(&error))?);
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Err(unreadable(&"not a regular file"));
    }
    let mut text = String::new();
    file.take(LIMIT + 1).read_to_string(&mut text).map_err(|error| unreadable(&error))?;
    if text.len() as u64 > LIMIT {
        return Err(unreadable(&"larger than 1 MiB"));
    }
    Ok(text)
}

/// The value of the first variable of that name; empty where there is none. What comes after it may be anything.
pub(super) fn find<'a>(text: &'a str, key: &str) -> Result<&'a str, EnvError> {
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let assignment = line.trim_start_matches(BLANK).trim_end_matches('\r');
        if assignment.is_empty() || assignment.starts_with('#') {
            rest = after;
            continue;
        }
        let (name, value) = assignment.split_once('=').ok_or(EnvError::File)?;
        if name.is_empty() || name.ends_with(BLANK) {
            return Err(EnvError::File);
        }
        // As a shell takes it: the variable is empty, and another command follows.
        if value.starts_with(BLANK) {
            if name == key {
                return Ok("");
            }
            rest = after;
            continue;
        }
        // Up to the next quote, over as many lines as that takes.
        let quoted = &rest[rest.find('=').map_or(0, |at| at + 1)..];
        let (value, behind) =
            quoted.strip_prefix('\'').and_then(|value| value.split_once('\'')).ok_or(EnvError::File)?;
        let (line, after) = behind.split_once('\n').unwrap_or((behind, ""));
        let line = line.trim_start_matches(BLANK).trim_end_matches('\r');
        if !line.is_empty() && !line.starts_with('#') {
            return Err(EnvError::File);
        }
        if name == key {
            return Ok(value);
        }
        rest = after;
    }
    Ok("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_what_its_quotes_hold() {
        let text = "# made by an init container\n\n  A='one'\nB='a # b = $C'  # note\nC=''\nD='two\nlines'\nA='late'\nE= 'x'\n";
        for (key, value) in [("A", "one"), ("B", "a # b = $C"), ("C", ""), ("D", "two\nlines"), ("E", ""), ("F", "")] {
            assert_eq!(find(text, key), Ok(value), "{key}");
        }
        assert_eq!(find("A='1'\r\nB='2'", "B"), Ok("2"));
        assert_eq!(find("", "A"), Ok(""));
    }

    #[test]
    fn what_is_no_assignment_is_refused_once_it_is_reached() {
        for text in ["B\n", "=''", "B ='1'", "B=1", "B=\"1\"", "B='1", "B='1' C='2'", "B='1'2"] {
            assert_eq!(find(&format!("{text}\nA='x'"), "A"), Err(EnvError::File), "{text}");
            assert_eq!(find(&format!("A='x'\n{text}"), "A"), Ok("x"), "{text}");
        }
    }

    #[test]
    fn only_files_of_the_volume_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        std::fs::create_dir_all(volume.join("sub")).unwrap();
        std::fs::write(dir.path().join("secret"), "A='outside'").unwrap();
        std::fs::write(volume.join("secret"), "A='inside'").unwrap();
        for (link, target) in [("up", "../secret"), ("absolute", "/secret"), ("host", dir.path().to_str().unwrap())] {
            std::os::unix::fs::symlink(target, volume.join(link)).unwrap();
        }
        nix::unistd::mkfifo(&volume.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(&volume, "up").as_deref(), Ok("A='inside'"));
        assert_eq!(read(&volume, "absolute").as_deref(), Ok("A='inside'"));
        for path in ["host/secret", "sub", "pipe", "none"] {
            assert_eq!(read(&volume, path), Err(EnvError::File), "{path}");
        }
        std::fs::write(volume.join("large"), vec![b'#'; (1 << 20) + 1]).unwrap();
        assert_eq!(read(&volume, "large"), Err(EnvError::File));
    }
}
