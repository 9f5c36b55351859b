//! The entry point of a re-executed binary.

use std::ffi::OsString;

use crate::executable::Role;
use crate::{helper, shim};

/// Runs the shim or a helper when the process was started as one, and returns its exit code. `main` calls this
/// before anything else (no thread may run yet, and no arguments be parsed) and ends with that code.
pub fn reexec() -> Option<i32> {
    let mut arguments = std::env::args_os();
    let role = Role::from_name(&arguments.next()?)?;
    let arguments: Vec<OsString> = arguments.collect();
    Some(match role {
        Role::Shim => shim::main(&arguments),
        Role::Init => helper::init(&arguments),
        Role::Exec => helper::exec(&arguments),
        Role::Pause => shim::pause(),
    })
}
