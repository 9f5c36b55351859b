//! BusyBox from Debian's static build: one program under the names of hundreds.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::{PATH, Recipe};
use crate::images::packages::output;
use crate::images::rootfs::Rootfs;

pub fn recipe() -> Recipe {
    Recipe {
        name: "busybox",
        // Debian's version is another; the tags are those that manifests name.
        tags: &["busybox:latest", "busybox:1.37"],
        packages: &["busybox-static"],
        finish: |rootfs| fill(rootfs, "usr/bin"),
        config: |_| Ok(json!({"Env": [PATH], "Cmd": ["sh"]})),
    }
}

/// Links every applet whose name is still free.
pub fn fill(rootfs: &mut Rootfs, directory: &str) -> Result<()> {
    for applet in applets(rootfs.content("usr/bin/busybox")?)? {
        let taken = ["usr/bin", "usr/sbin"].iter().any(|place| rootfs.contains(&format!("{place}/{applet}")));
        if !taken {
            rootfs.link(&format!("{directory}/{applet}"), "/usr/bin/busybox");
        }
    }
    Ok(())
}

/// The program knows its names.
fn applets(program: &[u8]) -> Result<Vec<String>> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(program)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o700))?;
    // Closed before it runs: a file open for writing cannot be executed. It does what its name says, so it gets one.
    let path = file.into_temp_path();
    let text = output(Command::new(&path).arg0("busybox").arg("--list")).context("ask busybox for its applets")?;
    Ok(String::from_utf8(text)?.lines().map(str::to_owned).collect())
}
