//! The processes of a cluster and what memory they take.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use harness::Cluster;

pub(super) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

pub(super) fn kilobytes(bytes: u64) -> f64 {
    bytes as f64 / 1e3
}

/// A process of the cluster itself: the server, the keeper of the DNS sockets, a pod's shim; no container's.
pub(super) struct Process {
    pub(super) folder: PathBuf,
}

impl Process {
    /// Those that name the data directory or live in the node's network namespace.
    pub(super) fn of(cluster: &Cluster) -> Result<Vec<Self>> {
        let netns = fs::metadata(Path::new("/run/netns").join(&cluster.namespace.name))?.ino();
        let data = cluster.data_dir().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").context("listing processes")?.flatten() {
            let folder = entry.path();
            if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
                continue;
            }
            let names_it =
                String::from_utf8_lossy(&fs::read(folder.join("cmdline")).unwrap_or_default()).contains(&data);
            let lives_there = fs::metadata(folder.join("ns/net")).is_ok_and(|namespace| namespace.ino() == netns);
            if names_it || lives_there {
                found.push(Self { folder });
            }
        }
        ensure!(!found.is_empty(), "found no process of the cluster");
        Ok(found)
    }

    pub(super) fn server(cluster: &Cluster) -> Self {
        Self { folder: Path::new("/proc").join(cluster.pid().to_string()) }
    }

    /// Resident now, and the most since [`Process::forget_peak`].
    pub(super) fn resident_bytes(&self) -> Result<(u64, u64)> {
        let status = self.read("status")?;
        let field = |key| number(&status, key).map(|kilobytes| kilobytes * 1024);
        field("VmRSS:").zip(field("VmHWM:")).context("no memory in a status")
    }

    pub(super) fn forget_peak(&self) -> Result<()> {
        fs::write(self.folder.join("clear_refs"), "5").context("forgetting a peak of memory")
    }

    /// The words after the program's name that say what it is.
    pub(super) fn name(&self) -> String {
        name(&fs::read(self.folder.join("cmdline")).unwrap_or_default())
    }

    /// By what it calls itself.
    pub(super) fn is_called(&self, name: &str) -> bool {
        fs::read(self.folder.join("cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).next() == Some(name.as_bytes()))
    }

    /// User and system time.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("no clock ticks")?;
        Ok(ticks(&self.read("stat")?)? as f64 / per_second as f64)
    }

    pub(super) fn proportional_bytes(&self) -> Result<u64> {
        proportional_bytes(&self.read("smaps_rollup")?)
    }

    pub(super) fn read(&self, file: &str) -> Result<String> {
        let path = self.folder.join(file);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

/// Arguments end with a zero byte, also the last.
fn name(command_line: &[u8]) -> String {
    let words = command_line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
    let role = words.iter().skip(1).find(|word| !word.starts_with('-') && !word.contains('/'));
    role.or(words.first()).map(|word| word.clone().into_owned()).unwrap_or_default()
}

/// The name before the times may hold blanks and parentheses.
fn ticks(stat: &str) -> Result<u64> {
    let (_, fields) = stat.rsplit_once(')').context("a stat line without a name")?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let mut next = || fields.next().context("a short stat line")?.context("a stat line's time");
    Ok(next()? + next()?)
}

fn proportional_bytes(rollup: &str) -> Result<u64> {
    Ok(number(rollup, "Pss:").context("no Pss in smaps_rollup")? * 1024)
}

pub(super) fn number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_kernel_s_text() {
        assert_eq!(proportional_bytes("x\nRss: 9 kB\nPss:        20 kB\nPss_Dirty: 1 kB\n").unwrap(), 20 * 1024);
        assert!(proportional_bytes("").is_err());
        assert_eq!(
            number("nonvoluntary_ctxt_switches:\t9\nvoluntary_ctxt_switches:\t4\n", "voluntary_ctxt_switches:"),
            Some(4)
        );
        assert_eq!(number("VmRSS: many kB\n", "VmRSS:"), None);
        assert_eq!(ticks("1 (a) b) S 1 1 1 0 -1 0 0 0 0 0 7 5 0 0").unwrap(), 12);
        assert!(
            ticks("1 (a) S 1").is_err() && ticks("").is_err() && ticks("1 (a) S 1 1 1 0 -1 0 0 0 0 0 x 5").is_err()
        );
    }

    #[test]
    fn a_process_is_called_by_its_role_or_else_its_program() {
        assert_eq!(name(b"/x/sampan\0server\0--data-dir\0/d\0"), "server");
        assert_eq!(name(b"sampan-shim\0/d/containers/1\0"), "sampan-shim");
        assert_eq!(name(b""), "");
    }
}
