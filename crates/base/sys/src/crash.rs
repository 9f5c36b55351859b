//! Named points at which a test ends the process as a crash would: nothing is cleaned up, and what is on disk and in the
//! kernel by then stays. Builds for users have none.

use std::sync::OnceLock;

static ARMED: OnceLock<String> = OnceLock::new();

/// Chooses the point; once, by the program's `main`.
pub fn arm(point: String) {
    let _ = ARMED.set(point);
}

/// Ends the process if this point was chosen.
pub fn point(name: &str) {
    if cfg!(debug_assertions) && ARMED.get().is_some_and(|armed| armed == name) {
        std::process::abort();
    }
}
