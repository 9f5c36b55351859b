//! The key that signs service-account tokens: made once, kept in `<data-dir>/tls/service-account.key`, because tokens
//! outlive the process that signed them.

use std::path::Path;

use anyhow::{Context, Result};
use control_policy::tokens::Keys;
use rcgen::{KeyPair, PublicKeyData};

use crate::pki::write_private;

/// Reads the key of `dir`, or makes one (P-256); tokens name `issuer`.
pub fn open(dir: &Path, issuer: String) -> Result<Keys> {
    let path = dir.join("service-account.key");
    if !path.exists() {
        let key = KeyPair::generate().context("generating the key that signs tokens")?;
        write_private(&path, key.serialize_pem().as_bytes())?;
    }
    let pem = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let key = KeyPair::from_pem(&pem).with_context(|| format!("parsing {}", path.display()))?;
    let info = key.subject_public_key_info();
    Keys::new(&key.serialize_der(), key.public_key_raw(), &info, issuer)
        .with_context(|| format!("using {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_kept_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = open(dir.path(), "https://a".into()).expect("made");
        let second = open(dir.path(), "https://a".into()).expect("opened");
        assert_eq!(first.key_set(), second.key_set());
        std::fs::write(dir.path().join("service-account.key"), "not a key").expect("damaged");
        let error = open(dir.path(), "https://a".into()).err().expect("refused");
        assert!(format!("{error:#}").contains("service-account.key"), "{error:#}");
    }
}
