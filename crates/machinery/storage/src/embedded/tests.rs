#![allow(clippy::unwrap_used)]
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;

use super::*;
use crate::conformance;

/// Where [`a_writer_to_be_killed`] writes.
const CHILD_DIR: &str = "STORE_TEST_DIR";

fn put(value: impl Into<Bytes>) -> Op {
    Op::Put(value.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_disk_conforms() {
    let dirs = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    conformance::suite(async || {
        count.set(count.get() + 1);
        Embedded::open(&dirs.path().join(count.get().to_string())).await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_memory_conforms() {
    conformance::suite(async || Embedded::in_memory().await.unwrap()).await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).await.unwrap();
    let a = store.write("/a", Expect::Absent, put("one")).await.unwrap();
    let b = store.write("/b", Expect::Absent, put("b")).await.unwrap();
    let gone = store.write("/b", Expect::At(b), Op::Delete { last: "b".into() }).await.unwrap();
    store.compact(gone).await.unwrap();
    store.close().await;
    assert!(matches!(store.get("/a").await, Err(Error::Closed)));
    assert!(matches!(store.write("/c", Expect::Absent, put("c")).await, Err(Error::Closed)));

    let store = Embedded::open(dir.path()).await.unwrap();
    assert_eq!(store.revision().await.unwrap(), gone, "also when the newest row was compacted away");
    assert!(matches!(store.watch("/", a).await.map(drop), Err(Error::Compacted { .. })));
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, "one");
    assert!(matches!(store.write("/a", Expect::Absent, put("x")).await, Err(Error::Conflict { .. })));
    store.write("/a", Expect::At(a), put("two")).await.unwrap();
    store.write("/b", Expect::Absent, put("again")).await.unwrap();
}

#[tokio::test]
async fn a_closed_store_ends_its_watches() {
    let store = Embedded::in_memory().await.unwrap();
    let watch = store.watch("/", Revision(1)).await.unwrap();
    store.close().await;
    let ended: Vec<_> = watch.filter(|item| std::future::ready(item.is_err())).collect().await;
    assert!(matches!(ended[..], [Err(Error::Closed)]));
}

#[tokio::test]
async fn a_directory_in_use_is_named_with_its_user() {
    let dir = tempfile::tempdir().unwrap();
    let _store = Embedded::open(dir.path()).await.unwrap();
    let error = Embedded::open(dir.path()).await.err().unwrap().to_string();
    let expected = format!("data directory {} is in use by process {}", dir.path().display(), std::process::id());
    assert_eq!(error, expected);
}

#[tokio::test]
async fn the_files_are_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("db");
    let store = Embedded::open(&dir).await.unwrap();
    store.write("/a", Expect::Absent, put("secret")).await.unwrap();
    for file in std::fs::read_dir(&dir).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.path());
    }
}

#[tokio::test]
async fn a_newer_schema_and_a_file_that_is_no_store_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    Embedded::open(dir.path()).await.unwrap().close().await;
    let path = dir.path().join("store.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute("UPDATE meta SET value = 99 WHERE name = 'generation'", []).unwrap();
    drop(other);
    let error = Embedded::open(dir.path()).await.err().unwrap().to_string();
    assert_eq!(error, format!("store {} has schema generation 99, this binary knows up to 1", path.display()));

    std::fs::write(&path, "not a database, but long enough to look like a header to whoever opens it").unwrap();
    let error = Embedded::open(dir.path()).await.err().unwrap().to_string();
    assert_eq!(error, format!("cannot open store {}", path.display()));
}

#[tokio::test]
async fn history_goes_as_writes_come() {
    let dir = tempfile::tempdir().unwrap();
    let keep = Retention { revisions: 50, step: 10, ..Retention::default() };
    let store = Embedded::open_with(dir.path(), keep).await.unwrap();
    let gone = store.write("/gone", Expect::Absent, put("")).await.unwrap();
    store.write("/gone", Expect::At(gone), Op::Delete { last: "".into() }).await.unwrap();
    let mut at = store.write("/a", Expect::Absent, put("0")).await.unwrap();
    for n in 1..40 {
        at = store.write("/a", Expect::At(at), put(n.to_string())).await.unwrap();
    }
    store.close().await;
    // What is superseded is known again.
    let store = Embedded::open_with(dir.path(), keep).await.unwrap();
    for n in 40..200 {
        at = store.write("/a", Expect::At(at), put(n.to_string())).await.unwrap();
    }
    store.close().await;
    let rows: i64 = rusqlite::Connection::open(dir.path().join("store.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM history", [], |row| row.get(0))
        .unwrap();
    assert!((50..=62).contains(&rows), "{rows} rows are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_its_size_from_the_start_and_is_moved_while_writes_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let size = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().len();
    let store = Embedded::open(dir.path()).await.unwrap();
    let room = size("store.db-wal");
    assert!(room >= 4 << 20);
    // Several share a commit: a busy disk takes its time for each.
    for first in (0..3000).step_by(20) {
        let keys: Vec<_> = (first..first + 20).map(|n| format!("/{n}")).collect();
        let writes = keys.iter().map(|key| store.write(key, Expect::Absent, put(vec![b'x'; 1500])));
        futures::future::try_join_all(writes).await.unwrap();
    }
    assert!(size("store.db") > 1 << 20, "nothing was moved");
    assert!(size("store.db-wal") < 2 * room, "the log grows");
}

/// A file system of one mebibyte, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(dir.path()).status();
        assert!(mounted.unwrap().success(), "mounting needs root");
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_writes_and_nothing_else() {
    let disk = SmallDisk::mount();
    let ballast = disk.0.path().join("ballast");
    std::fs::File::create(&ballast).unwrap().write_all(&vec![0; 300 << 10]).unwrap();
    let store = Embedded::open(disk.0.path()).await.unwrap();

    let mut acknowledged = Vec::new();
    let mut full = None;
    for n in 0..1000 {
        let key = format!("/k/{n:04}");
        match store.write(&key, Expect::Absent, put(vec![b'x'; 4000])).await {
            Ok(_) => acknowledged.push(key),
            Err(error) => {
                full = Some(error);
                break;
            }
        }
    }
    assert!(matches!(full, Some(Error::Full { operation: "write" })), "{full:?}");
    let there = async |store: &Embedded| -> Vec<String> {
        let listing = store.list("/k/", None, 0, None).await.unwrap();
        listing.entries.iter().map(|entry| entry.key.to_string()).collect()
    };
    assert_eq!(there(&store).await, acknowledged);

    std::fs::remove_file(&ballast).unwrap();
    store.write("/k/later", Expect::Absent, put("x")).await.unwrap();
    acknowledged.push("/k/later".into());
    store.close().await;
    let store = Embedded::open(disk.0.path()).await.unwrap();
    assert_eq!(there(&store).await, acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child process of the next test"]
async fn a_writer_to_be_killed() {
    let store = Embedded::open(Path::new(&std::env::var_os(CHILD_DIR).unwrap())).await.unwrap();
    join_all((0..8).map(|writer| {
        let store = store.clone();
        async move {
            for n in 0.. {
                let key = format!("/{writer}/{n}");
                store.write(&key, Expect::Absent, put(vec![b'x'; 1500])).await.unwrap();
                std::io::stdout().lock().write_all(format!("wrote {key}\n").as_bytes()).unwrap();
            }
        }
    }))
    .await;
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_to_kill_nine() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::tests::a_writer_to_be_killed", "--ignored", "--nocapture"])
        .env(CHILD_DIR, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut wrote = || loop {
        let line = lines.next()?.unwrap();
        // The test harness puts its own words on the same output.
        if let Some((_, key)) = line.split_once("wrote ") {
            return Some(key.to_owned());
        }
    };
    acknowledged.extend(std::iter::from_fn(&mut wrote).take(2000));
    let error = Embedded::open(dir.path()).await.err().unwrap();
    assert!(error.to_string().ends_with(&format!("process {}", child.id())), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    acknowledged.extend(std::iter::from_fn(&mut wrote));
    assert!(acknowledged.len() >= 2000);

    let store = Embedded::open(dir.path()).await.unwrap();
    let listing = store.list("/", None, 0, None).await.unwrap();
    let there: std::collections::HashSet<&str> = listing.entries.iter().map(|entry| &*entry.key).collect();
    let lost: Vec<_> = acknowledged.iter().filter(|key| !there.contains(key.as_str())).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(listing.revision.0, 1 + listing.entries.len() as u64, "no revision is skipped");
}
