//! One program for each target, told apart by its name.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::run(env!("CARGO_BIN_NAME"), data));
