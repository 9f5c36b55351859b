//! Random numbers that need be unique, not secret: audit ids, jitter.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

static KEYS: LazyLock<(RandomState, RandomState)> = LazyLock::new(Default::default);
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A version 4 UUID. Keyed hashes of a counter: no system call on the request path.
pub(crate) fn uuid() -> String {
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let (high, low) = (KEYS.0.hash_one(count), KEYS.1.hash_one(count));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        (low >> 48) & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff,
    )
}

/// Evenly spread over `0.0..1.0`.
pub(crate) fn fraction() -> f64 {
    let random = KEYS.0.hash_one(COUNTER.fetch_add(1, Ordering::Relaxed));
    (random >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_well_formed_and_differ() {
        let (one, two) = (uuid(), uuid());
        assert_ne!(one, two);
        assert_eq!(one.len(), 36);
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&one.as_bytes()[19]));
        assert!((0.0..1.0).contains(&fraction()));
    }
}
