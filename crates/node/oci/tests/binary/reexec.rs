//! A binary that is nothing but the shim and its helpers.

use std::process::ExitCode;

fn main() -> ExitCode {
    let code = node_oci::reexec().unwrap_or(64);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
