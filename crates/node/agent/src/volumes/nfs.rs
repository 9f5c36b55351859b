//! NFS: mounted by the host's `mount.nfs`, or by the kernel alone where the host has none.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base_sys::mounts;
use tokio::process::Command;

use super::{Made, VolumeError, is_mounted};

const HELPER: &str = "mount.nfs";
/// Upstream's limit of a mount.
const LIMIT: Duration = Duration::from_secs(180);

/// What a server exports, and how it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Export {
    pub(super) server: String,
    pub(super) path: String,
    pub(super) read_only: bool,
    pub(super) options: Vec<String>,
}

impl Export {
    fn source(&self) -> String {
        // Colons would end the server's name.
        let plain = !self.server.contains(':') || self.server.starts_with('[');
        if plain { format!("{}:{}", self.server, self.path) } else { format!("[{}]:{}", self.server, self.path) }
    }

    fn options(&self) -> Vec<&str> {
        let read_only = self.read_only.then_some("ro");
        read_only.into_iter().chain(self.options.iter().map(String::as_str)).collect()
    }

    fn arguments(&self, at: &Path) -> Vec<String> {
        let mut arguments = vec![self.source(), at.to_string_lossy().into_owned()];
        let options = self.options();
        if !options.is_empty() {
            arguments.extend(["-o".to_owned(), options.join(",")]);
        }
        arguments
    }
}

/// After a restart of the agent it is there already. It goes with the pod's directory.
pub(super) async fn mount(export: &Export, at: &Path) -> Result<Made, VolumeError> {
    mount_by(HELPER, export, at).await?;
    Ok(Made { read_only: export.read_only, ..Made::at(at) })
}

async fn mount_by(program: &str, export: &Export, at: &Path) -> Result<(), VolumeError> {
    std::fs::create_dir_all(at).map_err(VolumeError::io("create", at))?;
    if is_mounted(at)? {
        return Ok(());
    }
    let arguments = export.arguments(at);
    let mut command = Command::new(program);
    command.args(&arguments).stdin(Stdio::null()).kill_on_drop(true);
    let failed = |output: String| {
        let arguments = arguments.join(" ");
        let message = format!("Mounting command: {program}\nMounting arguments: {arguments}\nOutput: {output}");
        VolumeError::Nfs(format!("mount failed: {message}"))
    };
    match tokio::time::timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => by_kernel(export, at).await,
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no end within {} seconds", LIMIT.as_secs()))),
    }
}

/// The kernel knows no names: it is told the server's address.
async fn by_kernel(export: &Export, at: &Path) -> Result<(), VolumeError> {
    let server = export.server.trim_matches(['[', ']']);
    let found = tokio::net::lookup_host((server, 0)).await;
    let found = found.map_err(|error| VolumeError::Nfs(format!("lookup {server}: {error}")))?.next();
    let address = found.ok_or_else(|| VolumeError::Nfs(format!("lookup {server}: no such host")))?.ip();
    let (source, data, read_only, target) = (export.source(), data(export, address), export.read_only, at.to_owned());
    let mounted = tokio::task::spawn_blocking(move || mounts::mount_nfs(&source, &target, read_only, &data)).await;
    match mounted.map_err(io::Error::other).and_then(|mounted| mounted) {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(NO_SUCH_KIND) => {
            Err(VolumeError::Nfs("this node has no mount.nfs, and its kernel knows no NFS".to_owned()))
        }
        Err(source) => Err(VolumeError::Io { operation: "mount NFS at", path: at.to_owned(), source }),
    }
}

/// `ENODEV`: the kernel has no such file system.
const NO_SUCH_KIND: i32 = 19;

fn data(export: &Export, address: IpAddr) -> String {
    // What the kernel takes as a flag is none of these.
    let given = export.options.iter().map(String::as_str).filter(|option| !matches!(*option, "ro" | "rw"));
    let version = ["vers", "nfsvers"];
    let has_version = export.options.iter().any(|one| version.contains(&one.split('=').next().unwrap_or_default()));
    let default = (!has_version).then_some("vers=4.2");
    let address = format!("addr={address}");
    default.into_iter().chain(given).chain([address.as_str()]).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn export(server: &str, read_only: bool, options: &[&str]) -> Export {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Export { server: server.into(), path: "/srv/a".into(), read_only, options }
    }

    #[test]
    fn an_export_is_mounted_with_its_options() {
        let at = Path::new("/v");
        assert_eq!(export("nas", false, &[]).arguments(at), ["nas:/srv/a", "/v"]);
        let wanted = ["[fd00::1]:/srv/a", "/v", "-o", "ro,soft,vers=3"];
        assert_eq!(export("fd00::1", true, &["soft", "vers=3"]).arguments(at), wanted);
        let address = "192.0.2.1".parse().unwrap();
        assert_eq!(data(&export("nas", true, &["soft"]), address), "vers=4.2,soft,addr=192.0.2.1");
        assert_eq!(data(&export("nas", false, &["ro", "nfsvers=3"]), address), "nfsvers=3,addr=192.0.2.1");
    }

    #[tokio::test]
    async fn the_hosts_program_mounts_and_says_why_it_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("mount.nfs");
        let at = dir.path().join("v");
        let write = |text: &str| {
            std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        };
        let told = dir.path().join("told");
        write(&format!("echo \"$@\" > {}", told.display()));
        let program_name = program.to_str().unwrap();
        mount_by(program_name, &export("nas", true, &["hard"]), &at).await.unwrap();
        let text = std::fs::read_to_string(&told).unwrap();
        assert_eq!(text, format!("nas:/srv/a {} -o ro,hard\n", at.display()));
        write("echo 'access denied by server' >&2; exit 32");
        let error = mount_by(program_name, &export("nas", false, &[]), &at).await.unwrap_err().to_string();
        assert!(error.starts_with("mount failed:") && error.ends_with("Output: access denied by server"), "{error}");
    }

    #[tokio::test]
    async fn without_the_program_the_kernel_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("v");
        // Nothing listens there: with or without NFS in the kernel it is an error.
        let export = export("127.0.0.1", false, &["soft", "timeo=1", "retrans=0"]);
        let error = mount_by("/nonexistent/mount.nfs", &export, &at).await.unwrap_err();
        let knows = std::fs::read_to_string("/proc/filesystems").unwrap().contains("nfs");
        assert!(knows || error.to_string() == "this node has no mount.nfs, and its kernel knows no NFS", "{error}");
    }
}
