//! Messages, a file for each interface; fields that nobody reads are left out, which the encoding allows.

pub mod cri;
pub mod csi;
pub mod health;
pub mod registration;
