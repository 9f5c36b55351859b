//! Representations made on demand and kept with what they represent; sixteen bytes while there are none.

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

type Kept = Vec<(&'static str, Arc<dyn Any + Send + Sync>)>;

/// A few values by name, each made once.
#[derive(Default)]
pub struct Forms(OnceLock<Box<Mutex<Kept>>>);

impl Forms {
    pub fn get<T: Send + Sync + 'static>(&self, key: &'static str, make: impl FnOnce() -> T) -> Arc<T> {
        match self.try_get(key, || Ok::<_, Infallible>(make())) {
            Ok(form) => form,
            Err(never) => match never {},
        }
    }

    /// Two callers may race to make the same form: one result is kept and both get it.
    pub fn try_get<T: Send + Sync + 'static, E>(
        &self,
        key: &'static str,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let kept = self.0.get_or_init(Box::default);
        if let Some(form) = find(&kept.lock().unwrap_or_else(PoisonError::into_inner), key) {
            return Ok(form);
        }
        // Not under the lock: making one form may ask for another.
        let made = Arc::new(make()?);
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(form) = find(&kept, key) {
            return Ok(form);
        }
        kept.push((key, made.clone()));
        Ok(made)
    }
}

/// A key used with two types keeps one form of each.
fn find<T: Send + Sync + 'static>(kept: &Kept, key: &str) -> Option<Arc<T>> {
    kept.iter().filter(|(name, _)| *name == key).find_map(|(_, form)| form.clone().downcast().ok())
}

impl fmt::Debug for Forms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Forms")
    }
}
