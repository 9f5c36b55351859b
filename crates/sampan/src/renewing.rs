//! Certificates that this process signs for itself, replaced while they are in use: whoever is about to show one that
//! is near its end signs another first. Nothing waits for the day.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Result;
use jiff::Timestamp;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::pki::LEAF_LIFE;

pub struct Renewing {
    sign: Box<dyn Fn() -> Result<CertifiedKey> + Send + Sync>,
    shown: RwLock<Shown>,
}

struct Shown {
    key: Arc<CertifiedKey>,
    /// From when on another is to be signed.
    renew: Timestamp,
}

impl Renewing {
    /// Shows what `sign` makes.
    pub fn new(sign: impl Fn() -> Result<CertifiedKey> + Send + Sync + 'static) -> Result<Arc<Self>> {
        let shown = RwLock::new(Shown::of(sign()?, Timestamp::now()));
        Ok(Arc::new(Self { sign: Box::new(sign), shown }))
    }

    fn certified(&self, now: Timestamp) -> Arc<CertifiedKey> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        if now < shown.renew {
            return shown.key.clone();
        }
        drop(shown);
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        if now >= shown.renew {
            match (self.sign)() {
                Ok(key) => *shown = Shown::of(key, now),
                Err(error) => tracing::error!("a certificate that nears its end is not replaced: {error:#}"),
            }
        }
        shown.key.clone()
    }
}

impl Shown {
    fn of(key: CertifiedKey, now: Timestamp) -> Self {
        Self { key: Arc::new(key), renew: now + LEAF_LIFE * 4 / 5 }
    }
}

impl fmt::Debug for Renewing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewing").finish_non_exhaustive()
    }
}

impl ResolvesClientCert for Renewing {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.certified(Timestamp::now()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Renewing {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified(Timestamp::now()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use anyhow::bail;

    use super::*;
    use crate::pki::Authority;

    #[test]
    fn a_certificate_is_replaced_by_who_shows_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::open(dir.path()).expect("made");
        let signed = Arc::new(AtomicUsize::new(0));
        let count = signed.clone();
        let renewing = Renewing::new(move || match count.fetch_add(1, Ordering::Relaxed) {
            1 => bail!("not now"),
            _ => authority.client("n", &[])?.certified(&[]),
        })
        .expect("signed");
        let (now, life) = (Timestamp::now(), LEAF_LIFE);
        let first = renewing.certified(now);
        assert!(Arc::ptr_eq(&first, &renewing.certified(now + life / 2)), "it has time");
        assert!(Arc::ptr_eq(&first, &renewing.certified(now + life * 9 / 10)), "better that than none");
        let second = renewing.certified(now + life * 9 / 10);
        assert_ne!(first.cert, second.cert);
        assert!(Arc::ptr_eq(&second, &renewing.certified(now + life)));
        assert_eq!(signed.load(Ordering::Relaxed), 3);
    }
}
