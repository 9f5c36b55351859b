//! Every target over its seeds and mutations of them, the same on every run.

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;

const MUTATIONS: usize = 3000;

/// No input of a few kilobytes takes longer, in a debug build on a busy machine.
const LONGEST: Duration = Duration::from_secs(5);

/// Parts of what is parsed here: a mutation puts them where they do not belong.
const WORDS: &[&str] = &[
    "null",
    "true",
    "0",
    "-1",
    "1e400",
    "9223372036854775808",
    "\"\"",
    "{}",
    "[]",
    "[[",
    "{\"a\":",
    "\\u0000",
    "\\ud800",
    "$patch",
    "$retainKeys",
    "$setElementOrder/",
    "$deleteFromPrimitiveList/",
    "delete",
    "replace",
    "metadata",
    "spec",
    "name",
    "f:",
    "k:{",
    "v:",
    " in (",
    " notin ",
    "!=",
    "==",
    ",",
    "&a ",
    "*a",
    "<<: ",
    "- ",
    "\n\n",
    "self",
    ".all(x, ",
    "has(",
    "matches('",
    "(((((((((",
    "Ki",
    "E9",
    "properties",
    "x-kubernetes-",
    "/",
    "~1",
    "%",
];

/// Always the same numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        // Marsaglia's xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap_or_default() % most.max(1)
    }
}

fn mutated(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut data = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(data.len() + 1);
        let end = at + dice.below((data.len() - at).min(40) + 1);
        match dice.below(6) {
            0 => drop(data.drain(at..end)),
            1 => drop(data.splice(at..at, WORDS[dice.below(WORDS.len())].bytes())),
            2 => drop(data.splice(at..end, WORDS[dice.below(WORDS.len())].bytes())),
            3 if at < data.len() => data[at] ^= 1 << dice.below(8),
            4 => {
                let part = data[at..end].to_vec();
                let times = 1 + dice.below(3);
                data.splice(at..at, part.repeat(times));
            }
            _ => {
                // The rest from another seed.
                let other = &seeds[dice.below(seeds.len())];
                data.truncate(at);
                data.extend_from_slice(&other[dice.below(other.len() + 1)..]);
            }
        }
    }
    data.truncate(16 * 1024);
    data
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no seeds");
    files.iter().map(|file| std::fs::read(file).expect("a seed")).collect()
}

/// On a stack as the server's workers have it.
fn withstands(name: &'static str) {
    let work = move || {
        let (seeds, mut dice) = (seeds(name), Dice(0x5eed));
        let mutations = (0..MUTATIONS).map(|_| mutated(&seeds, &mut dice)).collect::<Vec<_>>();
        for data in seeds.iter().chain(&mutations) {
            let before = Instant::now();
            let outcome = std::panic::catch_unwind(|| run(name, data));
            assert!(outcome.is_ok(), "{name} breaks on {:?}", String::from_utf8_lossy(data));
            assert!(
                before.elapsed() < LONGEST,
                "{name} takes {:?} for {:?}",
                before.elapsed(),
                String::from_utf8_lossy(data)
            );
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(work).expect("a thread");
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            withstands(stringify!($name));
        })*

        #[test]
        fn each_target_has_a_test() {
            let tested = [$(stringify!($name)),*];
            assert!(TARGETS.iter().all(|(name, _)| tested.contains(name)) && tested.len() == TARGETS.len());
        }
    };
}

targets!(body patch protobuf continue_token selectors expression definition quantity ownership admission_answer conversion_answer spdy cri layer
    image image_name dns cni);
