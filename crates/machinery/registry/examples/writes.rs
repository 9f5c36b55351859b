//! CPU time of a create, an update and a patch through the whole write path, beside that of the bare storage write.
//!
//! `cargo run --release -p machinery-registry --example writes [COUNT]`
#![allow(clippy::print_stdout, clippy::unwrap_used, dead_code)] // a measuring program

#[path = "../tests/registry/schema.rs"]
mod schema;
#[path = "../tests/registry/widget.rs"]
mod widget;

use std::sync::Arc;

use base_meta::{Gvr, Status};
use machinery_registry::{Admission, Attributes, Operation, Resource as _};
use machinery_storage::embedded::Embedded;
use machinery_storage::{Expect, Op, Storage as _};
use serde_json::{Value, json};

use widget::{Setup, merge, setup_with};

/// Looks at every write and changes none, as the plug-in that checks a write's namespace.
struct Onlooker;

#[async_trait::async_trait]
impl Admission for Onlooker {
    fn name(&self) -> &'static str {
        "Onlooker"
    }
    fn handles(&self, _: &Gvr, _: Option<&str>, _: Operation) -> bool {
        true
    }
    async fn mutate(&self, _: &Attributes<'_>, _: &mut Value) -> Result<(), Status> {
        Ok(())
    }
}

/// User and system time of this process in microseconds, ended threads' included; to the kernel's tick of 10 ms.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(") ").unwrap().1;
    let ticks = after_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap());
    ticks.sum::<f64>() * 10_000.0
}

/// 1.2 KB in one map of texts.
fn flat(name: &str) -> Value {
    let entries: serde_json::Map<_, _> =
        (0..16).map(|n| (format!("key-{n}.properties"), Value::from("v".repeat(50)))).collect();
    let mut value = widget::widget(name);
    value["metadata"]["annotations"] = Value::Object(entries);
    value
}

/// 3 KB of structures in lists.
fn deep(name: &str) -> Value {
    let args: Vec<_> = (0..4).map(|n| format!("--flag-{n}=value")).collect();
    let parts: Vec<_> =
        (0..16).map(|n| json!({"name": format!("part-{n}"), "image": "registry/image:1", "args": args})).collect();
    let mut value = widget::widget(name);
    value["spec"]["parts"] = Value::Array(parts);
    value
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count: usize = std::env::args().nth(1).map_or(20_000, |text| text.parse().unwrap());
    for (shape, make) in [("flat", flat as fn(&str) -> Value), ("deep", deep)] {
        let size = make("w-00000").to_string().len();
        println!("{shape}: {size} bytes");
        let bare = Embedded::in_memory().await.unwrap();
        let body = bytes::Bytes::from(make("w").to_string());
        measure("storage alone", count, async |n| {
            bare.write(&format!("/x/{n}"), Expect::Absent, Op::Put(body.clone())).await.unwrap();
        })
        .await;
        for (how, admission) in
            [("", Vec::new()), (" with admission", vec![Arc::new(Onlooker) as Arc<dyn Admission>; 2])]
        {
            let setup: Setup = setup_with(Default::default(), admission).await;
            let bodies: Vec<_> = (0..count).map(|n| widget::payload(&make(&format!("w-{n:05}")))).collect();
            measure(&format!("create{how}"), count, async |n| {
                setup.registry.create(&setup.ctx, bodies[n].clone(), Default::default()).await.unwrap();
            })
            .await;
            let bodies: Vec<_> = (0..count)
                .map(|n| {
                    let mut value = make(&format!("w-{n:05}"));
                    value["spec"]["color"] = "blue".into();
                    widget::payload(&value)
                })
                .collect();
            measure(&format!("update{how}"), count, async |n| {
                let name = format!("w-{n:05}");
                setup.registry.update(&setup.ctx, &name, bodies[n].clone(), Default::default()).await.unwrap();
            })
            .await;
            measure(&format!("patch{how}"), count, async |n| {
                setup.patch(&format!("w-{n:05}"), merge(json!({"spec": {"color": "green"}}))).await.unwrap();
            })
            .await;
        }
    }
}

async fn measure(what: &str, count: usize, mut each: impl AsyncFnMut(usize)) {
    let before = cpu();
    for n in 0..count {
        each(n).await;
    }
    println!("  {what:<24} {:>6.1} µs", (cpu() - before) / count as f64);
}
