//! Names of volumes of CSI drivers that the node and the controllers must agree on.

use sha2::{Digest, Sha256};

const PREFIX: &str = "kubernetes.io/csi/";

/// A volume by its driver and the driver's name for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle {
    pub driver: String,
    pub handle: String,
}

/// As a node's status names the volume.
pub fn unique_name(driver: &str, handle: &str) -> String {
    format!("{PREFIX}{driver}^{handle}")
}

/// `None` of volumes of other kinds.
pub fn parse_unique_name(name: &str) -> Option<Handle> {
    let (driver, handle) = name.strip_prefix(PREFIX)?.split_once('^')?;
    Some(Handle { driver: driver.to_owned(), handle: handle.to_owned() })
}

/// The name of the volume's VolumeAttachment on a node.
pub fn attachment(handle: &str, driver: &str, node: &str) -> String {
    format!("csi-{}", digest(&[handle, driver, node]))
}

/// SHA-256 in hexadecimal, of the texts one after the other.
pub fn digest(texts: &[&str]) -> String {
    use std::fmt::Write;
    let digest = texts.iter().fold(Sha256::new(), |hash, text| hash.chain_update(text)).finalize();
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_upstream() {
        let name = unique_name("csi.example", "vol^1");
        assert_eq!(name, "kubernetes.io/csi/csi.example^vol^1");
        assert_eq!(parse_unique_name(&name), Some(Handle { driver: "csi.example".into(), handle: "vol^1".into() }));
        assert_eq!(parse_unique_name("kubernetes.io/nfs/x"), None);
        assert_eq!(digest(&["a", "bc"]), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(attachment("a", "b", "c"), format!("csi-{}", digest(&["abc"])));
    }
}
