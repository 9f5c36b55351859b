//! Durable writes a second at 1 and 64 writers, how soon a watcher sees a write, and what a read of the latest costs.
//!
//! `cargo run --release -p machinery-storage --example throughput [DIR]`; DIR is on the disk to be measured.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a measuring program

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use machinery_storage::embedded::Embedded;
use machinery_storage::{Cache, Expect, Extract, Freshness, Meta, Op, Start, Storage};

const WATCHERS: usize = 50;

fn value() -> Bytes {
    format!(r#"{{"metadata":{{"name":"a"}},"data":{{"x":"{}"}}}}"#, "x".repeat(1200)).into()
}

/// Measured from before the write to after the read, so it includes the commit.
#[tokio::main]
async fn main() {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(parent).unwrap();
    let store = Arc::new(Embedded::open(dir.path()).await.unwrap());
    for (writers, each) in [(1, 5_000), (64, 1_000)] {
        let start = Instant::now();
        let tasks = (0..writers).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..each {
                    let key = format!("/bench/{writers}/{writer}/{n}");
                    store.write(&key, Expect::Absent, Op::Put(value())).await.unwrap();
                }
            })
        });
        join_all(tasks).await;
        let rate = f64::from(writers * each) / start.elapsed().as_secs_f64();
        println!("{writers:>3} writers: {rate:>8.0} durable writes/s");
    }

    let extract: Arc<Extract> = Arc::new(|json| Ok((Meta::default(), json.clone())));
    let cache = Cache::start(store.clone(), "/watched/", extract).await.unwrap();
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        watchers.push(cache.watch(Start::Now, "/watched/").await.unwrap());
    }
    let (mut commit, mut first, mut last, mut read) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for n in 0..2_000 {
        let start = Instant::now();
        let seen = watchers.iter_mut().map(|watcher| async {
            watcher.next().await.unwrap().unwrap();
            start.elapsed()
        });
        let key = format!("/watched/{n}");
        let write = async {
            store.write(&key, Expect::Absent, Op::Put(value())).await.unwrap();
            start.elapsed()
        };
        let (committed, seen) = futures::join!(write, join_all(seen));
        commit.push(committed);
        first.push(*seen.iter().min().unwrap());
        last.push(*seen.iter().max().unwrap());
        let start = Instant::now();
        cache.get(&key, Freshness::Latest).await.unwrap().unwrap();
        read.push(start.elapsed());
    }
    println!("write → answer, p50:                       {:?}", median(commit));
    println!("write → first of {WATCHERS} watchers sees it, p50: {:?}", median(first));
    println!("write → last of {WATCHERS} watchers sees it, p50:  {:?}", median(last));
    println!("read of the latest, p50:                   {:?}", median(read));

    store.close().await;
    let start = Instant::now();
    let again = Embedded::open(dir.path()).await.unwrap();
    println!("open with {} writes of history:         {:?}", again.revision().await.unwrap(), start.elapsed());
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
