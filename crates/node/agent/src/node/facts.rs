//! What this machine is and has, read once.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::error::Error;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes set aside as huge pages, by the size of the page in bytes; every size that the kernel has.
    pub huge_pages: BTreeMap<u64, i64>,
    /// Bytes of the file system that holds the data directory.
    pub storage: i64,
    /// How many processes there may be at once.
    pub pid_max: i64,
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
            huge_pages: huge_pages(Path::new("/sys/kernel/mm/hugepages")),
            storage: i64::try_from(storage.blocks() * storage.fragment_size()).unwrap_or(i64::MAX),
            pid_max: line("/proc/sys/kernel/pid_max").parse().unwrap_or(i64::MAX),
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

/// Of directories such as `hugepages-2048kB`.
fn huge_pages(directory: &Path) -> BTreeMap<u64, i64> {
    // A kernel without huge pages has no such directory.
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let kibibytes: u64 = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let pages = std::fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
        let pages: i64 = pages.trim().parse().ok()?;
        let size = kibibytes.checked_mul(1024)?;
        Some((size, pages.checked_mul(i64::try_from(size).ok()?)?))
    };
    entries.filter_map(size).collect()
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
    fn huge_pages_are_counted_by_size() {
        let dir = tempfile::tempdir().unwrap();
        for (name, pages) in
            [("hugepages-2048kB", "3\n"), ("hugepages-1048576kB", "0\n"), ("other", "9"), ("hugepages-4kB", "x")]
        {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("nr_hugepages"), pages).unwrap();
        }
        assert_eq!(huge_pages(dir.path()), BTreeMap::from([(2 << 20, 6 << 20), (1 << 30, 0)]));
        assert_eq!(huge_pages(&dir.path().join("none")), BTreeMap::new());
    }

    #[test]
    fn this_machine_can_be_read() {
        let facts = Facts::read(Path::new("/")).unwrap();
        assert!(facts.cpu_milli >= 1000 && facts.memory > 0 && facts.storage > 0 && !facts.kernel.is_empty());
    }
}
