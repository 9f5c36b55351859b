//! Unique ids and generated names.

use base_meta::Status;

/// Without vowels and look-alikes, so that no word and no misreading comes out.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
/// Of a generated name, so that it is a DNS label.
const MAX_NAME: usize = 63;

fn random<const N: usize>() -> Result<[u8; N], Status> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Status::internal(format!("no random numbers: {error}")))?;
    Ok(bytes)
}

/// A version 4 UUID.
pub fn uid() -> Result<String, Status> {
    let mut bytes: [u8; 16] = random()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = |range: std::ops::Range<usize>| {
        use std::fmt::Write as _;
        bytes[range].iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    Ok(format!("{}-{}-{}-{}-{}", hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16)))
}

/// `base`, cut to leave room, and a random suffix.
pub(crate) fn name(base: &str) -> Result<String, Status> {
    let mut end = base.len().min(MAX_NAME - SUFFIX);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    // The bias of 256 mod 27 is a fraction of a bit; names only have to be unlikely to meet.
    let suffix: [u8; SUFFIX] = random()?;
    let suffix = suffix.map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
    Ok(base[..end].chars().chain(suffix).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn uids_are_version_four() {
        let (one, two) = (uid().unwrap(), uid().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 36);
        assert_eq!(&one[14..15], "4");
        assert!(["8", "9", "a", "b"].contains(&&one[19..20]));
    }

    #[test]
    fn names_keep_their_base_and_fit_a_label() {
        let short = name("web-").unwrap();
        assert!(short.starts_with("web-") && short.len() == 9);
        assert!(short[4..].bytes().all(|byte| ALPHABET.contains(&byte)));
        assert_eq!(name(&"x".repeat(100)).unwrap().len(), MAX_NAME);
        // A cut inside a character must not panic: validation refuses the name later.
        assert!(name(&"é".repeat(40)).unwrap().len() <= MAX_NAME);
    }
}
