//! Which of the host's user ids are for pods with their own users.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use node_agent::UserRanges;
use sha2::{Digest, Sha256};

/// Whose subordinate ids they are, as upstream's kubelet has it.
const OWNER: &str = "kubelet";
const PRINTER: &str = "/usr/bin/getsubids";

/// Those that the host has set aside for the user kubelet, else some by the data directory, which is canonical: pods of two
/// nodes on one host are different users, too.
pub fn ranges(data_dir: &Path, max_pods: u32) -> Result<UserRanges> {
    let known = nix::unistd::User::from_name(OWNER).with_context(|| format!("looking up the user {OWNER}"))?;
    if known.is_none() || !Path::new(PRINTER).exists() {
        let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
        return Ok(UserRanges::block(u32::from(digest[4]), max_pods));
    }
    let (users, groups) = (printed(&[OWNER])?, printed(&["-g", OWNER])?);
    UserRanges::set_aside(&users, &groups, max_pods).context("reading the ids of /etc/subuid and /etc/subgid")
}

fn printed(arguments: &[&str]) -> Result<String> {
    let output = Command::new(PRINTER).args(arguments).output().with_context(|| format!("running {PRINTER}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{PRINTER} {}: {}", arguments.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
