//! Small eBPF programs without a compiler: instructions assembled here, maps, programs of sockets' addresses, their links
//! to a cgroup, and pins. Only the kernel's stable interface.

mod asm;
mod call;
mod link;
mod map;
mod program;

pub use asm::{Alu, Asm, Condition, Helper, Label, Reg, Size};
pub use call::mount;
pub use link::Link;
pub use map::Map;
pub use program::{Attach, Program};

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("create the eBPF map {name}")]
    Map {
        name: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("change an element of an eBPF map")]
    Element(#[source] io::Error),
    #[error("read an eBPF map")]
    Read(#[source] io::Error),
    /// With the last of what the verifier said.
    #[error("load the eBPF program {name}: {log}")]
    Load {
        name: &'static str,
        log: String,
        #[source]
        source: io::Error,
    },
    #[error("attach an eBPF program to a cgroup")]
    Attach(#[source] io::Error),
    #[error("replace an attached eBPF program")]
    Replace(#[source] io::Error),
    #[error("pin at {}", .path.display())]
    Pin {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("open what is pinned at {}", .path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returning(value: i32) -> Asm {
        let mut asm = Asm::default();
        asm.alu_value(Alu::Move, Reg::R0, value);
        asm.exit();
        asm
    }

    #[test]
    fn maps_hold_as_much_as_they_are_made_for() {
        let map = Map::<4, 8>::hash("test", 2).expect("a map; this needs root");
        let [a, b, c] = [1_u32, 2, 3].map(u32::to_ne_bytes);
        map.set(&a, &[1; 8]).expect("room");
        map.set(&b, &[2; 8]).expect("room");
        assert!(matches!(map.set(&c, &[3; 8]), Err(Error::Element(_))));
        map.set(&a, &[4; 8]).expect("replaced");
        assert_eq!((map.get(&a).expect("read"), map.get(&c).expect("read")), (Some([4; 8]), None));
        let mut keys = map.keys().expect("read");
        keys.sort();
        assert_eq!(keys, [a, b]);
        map.remove(&a).expect("removed");
        map.remove(&a).expect("none there is fine");
        assert_eq!(map.keys().expect("read"), [b]);
        assert!(Map::<4, 8>::hash("test", 0).is_err());
        // Of an array of words.
        Map::<4, 40>::of_sockets("test").expect("storage of sockets");
        assert!(Map::<4, 0>::of_sockets("test").is_err());
    }

    #[test]
    fn a_program_that_the_verifier_refuses_says_why() {
        Program::load("test", Attach::Connect4, returning(1)).expect("loaded; this needs root");
        let refused = Program::load("test", Attach::Connect4, returning(7)).expect_err("connections end with 0 or 1");
        let Error::Load { log, .. } = refused else { panic!("{refused}") };
        assert!(log.contains("R0"), "{log}");
        assert!(Program::load("test", Attach::Connect4, Asm::default()).is_err());
    }

    #[test]
    fn what_is_pinned_outlives_its_descriptor_and_only_in_its_own_file_system() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = dir.path().canonicalize().expect("its path");
        let pin = at.join("map");
        let map = Map::<4, 8>::hash("test", 2).expect("a map; this needs root");
        assert!(matches!(map.pin(&pin), Err(Error::Pin { .. })));
        assert!(matches!(Map::<4, 8>::open(&pin), Ok(None)));
        mount(&at).expect("mounted");
        map.set(&[1; 4], &[1; 8]).expect("room");
        map.pin(&pin).expect("pinned");
        assert!(map.pin(&pin).is_err());
        drop(map);
        let map = Map::<4, 8>::open(&pin).expect("opened").expect("there");
        assert_eq!(map.get(&[1; 4]).expect("read"), Some([1; 8]));
        let program = Program::load("test", Attach::Connect4, returning(1)).expect("loaded");
        let directory = std::fs::File::open(&at).expect("opened");
        let no_cgroup = Link::attach(std::os::fd::AsFd::as_fd(&directory), &program, Attach::Connect4);
        assert!(matches!(no_cgroup, Err(Error::Attach(_))));
        crate::mounts::unmount(&at).expect("unmounted");
        assert!(matches!(Map::<4, 8>::open(&pin), Ok(None)));
        assert!(Map::<4, 8>::open(std::path::Path::new("/proc/self/status")).is_err());
    }
}
