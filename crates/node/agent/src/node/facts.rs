//! What this machine is and has, read once.

use std::io;
use std::path::Path;

use crate::error::Error;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of the file system that holds the data directory.
    pub storage: i64,
    pub kernel: String,
    pub os_image: String,
    pub machine_id: String,
    pub boot_id: String,
    pub architecture: &'static str,
}

impl Facts {
    pub fn read(data_dir: &Path) -> Result<Self, Error> {
        let failed = |what| move |source| Error::Machine { what, source };
        let cpus = std::thread::available_parallelism().map_err(failed("processors"))?;
        let meminfo = std::fs::read_to_string("/proc/meminfo").map_err(failed("memory"))?;
        let memory = mem_total(&meminfo).ok_or_else(|| {
            failed("memory")(io::Error::new(io::ErrorKind::InvalidData, "no MemTotal in /proc/meminfo"))
        })?;
        let storage = nix::sys::statvfs::statvfs(data_dir)
            .map_err(|errno| failed("data directory's file system")(errno.into()))?;
        let line = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        Ok(Self {
            cpu_milli: i64::try_from(cpus.get()).unwrap_or(1) * 1000,
            memory,
            storage: i64::try_from(storage.blocks() * storage.fragment_size()).unwrap_or(i64::MAX),
            kernel: line("/proc/sys/kernel/osrelease"),
            os_image: os_image(&release),
            machine_id: line("/etc/machine-id"),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            architecture: Self::architecture_of_this_build(),
        })
    }

    /// As Go names it.
    pub fn architecture_of_this_build() -> &'static str {
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    }
}

/// `MemTotal` in bytes.
fn mem_total(meminfo: &str) -> Option<i64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

fn os_image(release: &str) -> String {
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_parse_and_rubbish_does_not() {
        assert_eq!(mem_total("MemFree: 1 kB\nMemTotal:       16 kB\n"), Some(16 * 1024));
        assert_eq!(mem_total("MemTotal: many"), None);
        assert_eq!(mem_total(""), None);
        assert_eq!(
            os_image("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(os_image(""), "Linux");
    }

    #[test]
    fn this_machine_can_be_read() {
        let facts = Facts::read(Path::new("/")).unwrap();
        assert!(facts.cpu_milli >= 1000 && facts.memory > 0 && facts.storage > 0 && !facts.kernel.is_empty());
    }
}
