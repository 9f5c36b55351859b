//! Which of an index's manifests runs on this machine.

use oci_client::manifest::ImageIndexEntry;

use super::outcome::Failure;
use crate::image::architecture;

/// The first Linux manifest of this architecture; one without a platform counts when it is the only one.
pub fn for_this_machine(entries: &[ImageIndexEntry]) -> Option<&ImageIndexEntry> {
    let fits = |entry: &&ImageIndexEntry| {
        entry.platform.as_ref().is_some_and(|platform| {
            platform.os.to_string() == "linux" && platform.architecture.to_string() == architecture()
        })
    };
    match entries {
        [only] if only.platform.is_none() => Some(only),
        _ => entries.iter().find(fits),
    }
}

/// A manifest without an index says its platform only in the configuration; old ones say none.
pub(super) fn check(os: &str, machine: &str) -> Result<(), Failure> {
    if (os.is_empty() || os == "linux") && (machine.is_empty() || machine == architecture()) {
        return Ok(());
    }
    Err(Failure::Unsupported(format!("image is for {os}/{machine}, this node is linux/{}", architecture())))
}
