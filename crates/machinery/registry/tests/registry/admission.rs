use std::sync::{Arc, Mutex};

use base_meta::{GroupVersion, Gvr, Status};
use machinery_registry::admission::{Options, Version};
use machinery_registry::{Admission, Attributes, DeleteOptions, Operation, Resource, UpdateOptions};
use serde_json::{Value, json};

use crate::widget::{Setup, Widgets, merge, payload, setup_with, widget};

type Doing = dyn Fn(&Attributes<'_>, &mut Value) + Send + Sync;

/// Does something to what it is shown, and remembers it.
struct Spy {
    doing: Box<Doing>,
    seen: Arc<Mutex<Vec<Value>>>,
}

#[async_trait::async_trait]
impl Admission for Spy {
    fn name(&self) -> &'static str {
        "Spy"
    }

    fn handles(&self, _: &Gvr, _: Option<&str>, _: Operation) -> bool {
        true
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        self.note("mutate", attributes, Some(object));
        (self.doing)(attributes, object);
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        self.note("validate", attributes, object);
        Ok(())
    }
}

impl Spy {
    fn note(&self, phase: &str, attributes: &Attributes<'_>, object: Option<&Value>) {
        self.seen.lock().unwrap().push(json!({
            "phase": phase, "operation": attributes.operation.as_str(), "kind": attributes.gvk.kind,
            "object": object, "old": attributes.old, "options": attributes.options.to_value(),
        }));
    }
}

async fn spied(doing: impl Fn(&Attributes<'_>, &mut Value) + Send + Sync + 'static) -> (Setup, Arc<Mutex<Vec<Value>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let spy = Spy { doing: Box::new(doing), seen: seen.clone() };
    (setup_with(Widgets::default(), vec![Arc::new(spy)]).await, seen)
}

#[tokio::test]
async fn a_scale_is_what_plug_ins_see_of_one() {
    let (setup, seen) = spied(|attributes, object| {
        if attributes.gvk.kind == "Scale" && object["spec"]["replicas"] == 9 {
            object["spec"]["replicas"] = json!(3);
        }
    })
    .await;
    setup.create(widget("one")).await;
    seen.lock().unwrap().clear();
    let on = setup.on("scale");
    let patch = || merge(json!({"spec": {"replicas": 9}}));
    setup.registry.patch(&on, "one", patch(), UpdateOptions::default()).await.unwrap();
    assert_eq!(setup.get("one").await.unwrap()["spec"]["replicas"], 3);
    let seen = seen.lock().unwrap();
    assert_eq!((&seen[0]["object"]["spec"]["replicas"], &seen[0]["old"]["spec"]["replicas"]), (&json!(9), &json!(1)));
    assert_eq!((&seen[1]["phase"], &seen[1]["object"]["spec"]["replicas"]), (&json!("validate"), &json!(3)));
    assert!(seen.iter().all(|seen| seen["object"]["kind"] == "Scale" && seen["operation"] == "UPDATE"));
}

#[tokio::test]
async fn all_are_asked_again_once_where_one_wants_it() {
    let (setup, seen) = spied(|attributes, object| {
        attributes.rounds.want_second();
        object["metadata"]["labels"]["round"] = json!(if attributes.rounds.is_second() { "2" } else { "1" });
    })
    .await;
    let made = setup.create(widget("one")).await;
    assert_eq!(made["metadata"]["labels"]["round"], "2");
    let phases: Vec<Value> = seen.lock().unwrap().iter().map(|seen| seen["phase"].clone()).collect();
    assert_eq!(phases, ["mutate", "mutate", "validate"]);
}

#[tokio::test]
async fn bodies_of_subresources_and_deletions_pass() {
    let (setup, seen) = spied(|_, object| {
        if object["kind"] == "Ask" {
            object["answered"] = json!(true);
        }
    })
    .await;
    setup.create(widget("one")).await;
    let ask = json!({"kind": "Ask"});
    let on = setup.on("scale");
    let body = setup.registry.admit_body(&on, "one", Operation::Connect, ask, Options::None).await.unwrap();
    assert_eq!(body, json!({"kind": "Ask", "answered": true}));
    let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    setup.registry.delete(&setup.ctx, "one", options).await.unwrap();
    let seen = seen.lock().unwrap();
    let connected = &seen[seen.len() - 2];
    assert_eq!((&connected["operation"], &connected["options"]), (&json!("CONNECT"), &Value::Null));
    let deleted = &seen[seen.len() - 1];
    assert_eq!((&deleted["object"], &deleted["old"]["metadata"]["name"]), (&Value::Null, &json!("one")));
    assert_eq!(deleted["options"]["gracePeriodSeconds"], 0);
}

/// Looks at the object in the other version, and gives back what decoding makes of nonsense.
struct Bilingual(Mutex<Vec<(Vec<Version>, Value, Value)>>);

#[async_trait::async_trait]
impl Admission for Bilingual {
    fn name(&self) -> &'static str {
        "Bilingual"
    }

    fn handles(&self, _: &Gvr, _: Option<&str>, _: Operation) -> bool {
        true
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let versions = attributes.versions;
        let old = versions.convert(object.clone(), &GroupVersion::of("example.io", "v1beta1")).await?;
        let back = versions.convert(old.clone(), &GroupVersion::of("example.io", "v1")).await?;
        assert_eq!(back, *object);
        let mut changed = object.clone();
        changed["spec"] = json!({"color": "blue", "nonsense": 1});
        let settled = versions.settle(changed)?;
        assert_eq!(versions.settle(json!({"spec": 1})).unwrap_err().code, 400);
        self.0.lock().unwrap().push((versions.all(), old, settled));
        Ok(())
    }
}

#[tokio::test]
async fn plug_ins_convert_between_the_versions_that_are_served() {
    let plugin = Arc::new(Bilingual(Mutex::default()));
    let both = crate::view::over(setup_with(Widgets::default(), vec![plugin.clone()]).await);
    both.new.registry.create(&both.new.ctx, payload(&widget("one")), Default::default()).await.unwrap();
    let (versions, old, settled) = plugin.0.lock().unwrap().remove(0);
    let names: Vec<&str> = versions.iter().map(|version| &*version.gvr.version).collect();
    assert_eq!(names, ["v1", "v1beta1"]);
    assert_eq!((&old["apiVersion"], &old["spec"]["colour"]), (&json!("example.io/v1beta1"), &json!("red")));
    assert_eq!(settled["spec"], json!({"color": "blue", "replicas": 1}));
}
