//! One quota in memory, written by compare-and-swap like the real ones.

use machinery_registry::RequestContext;
use machinery_storage::{Meta, Revision};
use serde_json::json;
use tokio::sync::Notify;

use super::super::late::Lookup;
use super::super::testing::Asked;
use super::*;

#[derive(Clone)]
struct Store(Arc<Mutex<Vec<Value>>>, Arc<Mutex<u64>>);

#[async_trait::async_trait]
impl Lookup for Store {
    async fn find(&self, _: &RequestContext, _: Option<&str>, _: &str) -> Result<Option<Arc<Object>>, Status> {
        Ok(None)
    }

    async fn list(&self, _: &RequestContext, _: Option<&str>, _: Fresh) -> Result<Vec<Arc<Object>>, Status> {
        let one = |value: &Value| {
            let mut value = value.clone();
            let revision = text(&value, "/metadata/resourceVersion").parse().expect("a number");
            let name = text(&value, "/metadata/name").into();
            value["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
            let meta = Meta { name, ..Meta::default() };
            Arc::new(Object::new("k".into(), Revision(revision), meta, value.to_string().into()).expect("an object"))
        };
        Ok(self.0.lock().expect("a lock").iter().map(one).collect())
    }

    async fn put_status(&self, _: Option<&str>, name: &str, object: &Value) -> Result<(), Status> {
        tokio::task::yield_now().await;
        let (mut all, mut revision) = (self.0.lock().expect("a lock"), self.1.lock().expect("a lock"));
        let stored = all.iter_mut().find(|one| text(one, "/metadata/name") == name).expect("there");
        if text(stored, "/metadata/resourceVersion") != text(object, "/metadata/resourceVersion") {
            return Err(Status::modified(&Gvr::of("", "v1", "resourcequotas"), name));
        }
        *revision += 1;
        *stored = object.clone();
        stored["metadata"]["resourceVersion"] = json!(revision.to_string());
        Ok(())
    }
}

fn quota(name: &str, hard: Value, used: Value) -> Value {
    json!({"metadata": {"name": name, "resourceVersion": "1"}, "spec": {"hard": hard},
        "status": {"hard": hard, "used": used}})
}

fn plugin(quotas: Vec<Value>) -> (Arc<ResourceQuota>, Store) {
    let store = Store(Arc::new(Mutex::new(quotas)), Arc::new(Mutex::new(1)));
    let late = Late::new("", "resourcequotas");
    late.bind_lookup(Box::new(store.clone()));
    (Arc::new(ResourceQuota::new(Arc::new(late))), store)
}

impl Store {
    fn used(&self, name: &str) -> Value {
        let all = self.0.lock().expect("a lock");
        all.iter().find(|one| text(one, "/metadata/name") == name).expect("there")["status"]["used"].clone()
    }
}

fn maps() -> Asked {
    Asked::new(Gvr::of("", "v1", "configmaps"), "a", "m", Operation::Create)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn as_many_as_the_quota_has_and_not_one_more() {
    let (plugin, store) = plugin(vec![
        quota("q", json!({"count/configmaps": "20"}), json!({"count/configmaps": "0"})),
        quota("r", json!({"configmaps": "1k"}), json!({"configmaps": "5"})),
    ]);
    let makers = (0..64).map(|number| {
        let plugin = plugin.clone();
        tokio::spawn(async move {
            let asked = maps();
            match plugin.reserve(&asked.attributes(None), &json!({})).await {
                // Every fourth is not stored in the end.
                Ok(Some(undo)) if number % 4 == 0 => {
                    undo().await;
                    None
                }
                other => Some(other.map(drop)),
            }
        })
    });
    let done: Vec<_> = futures::future::join_all(makers).await.into_iter().map(|one| one.expect("joined")).collect();
    let stored = done.iter().flatten().filter(|one| one.is_ok()).count();
    assert!(stored <= 20, "{stored}");
    let used =
        |count: usize| (json!({"count/configmaps": count.to_string()}), json!({"configmaps": (count + 5).to_string()}));
    assert_eq!((store.used("q"), store.used("r")), used(stored), "what was not stored was given back");
    for _ in stored..20 {
        plugin.reserve(&maps().attributes(None), &json!({})).await.expect("there is room");
    }
    assert_eq!((store.used("q"), store.used("r")), used(20));
    let refused = plugin.reserve(&maps().attributes(None), &json!({})).await.err().expect("refused");
    assert_eq!(
        refused.message,
        "configmaps \"m\" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=20, \
         limited: count/configmaps=20"
    );
    assert_eq!(refused.code, 403);
}

#[tokio::test]
async fn a_dry_run_charges_nothing_and_is_refused_like_any() {
    let (plugin, store) = plugin(vec![quota("q", json!({"configmaps": "1"}), json!({"configmaps": "0"}))]);
    let asked = maps();
    let dry = || Attributes { dry_run: true, ..asked.attributes(None) };
    assert!(plugin.reserve(&dry(), &json!({})).await.expect("admitted").is_none());
    assert_eq!(store.used("q"), json!({"configmaps": "0"}));
    plugin.reserve(&asked.attributes(None), &json!({})).await.expect("admitted");
    assert!(plugin.reserve(&dry(), &json!({})).await.is_err());
}

#[tokio::test]
async fn who_recounts_waits_for_writes_under_way() {
    let (plugin, _) = plugin(vec![quota("q", json!({"configmaps": "9"}), json!({"configmaps": "0"}))]);
    let under_way = plugin.reserve(&maps().attributes(None), &json!({})).await.expect("admitted").expect("charged");
    let (began, recounting) = (Arc::new(Notify::new()), plugin.clone());
    let recount = tokio::spawn({
        let began = began.clone();
        async move {
            let asked = Asked::new(Gvr::of("", "v1", "resourcequotas"), "a", "q", Operation::Update).of("status");
            began.notify_one();
            recounting.validate(&asked.attributes(None), None).await
        }
    });
    began.notified().await;
    tokio::task::yield_now().await;
    assert!(!recount.is_finished());
    drop(under_way);
    assert_eq!(recount.await.expect("joined"), Ok(()));
}

fn planned(quotas: &[Value], kind: (&str, &str), new: &Value, old: Option<&Value>) -> Result<Vec<String>, String> {
    let charges = plan(&Kind::new(kind.0, kind.1), quotas, new, old, Timestamp::UNIX_EPOCH)?;
    Ok(charges.iter().map(|(quota, amounts)| format!("{} {}", text(quota, "/metadata/name"), print(amounts))).collect())
}

#[test]
fn pods() {
    let pods = ("", "pods");
    let asks =
        json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "300m", "memory": "1Mi"}}}]}});
    let plain = json!({"spec": {"containers": [{"name": "c"}]}});
    let cpu = quota("q", json!({"cpu": "1", "pods": "5", "services": "1"}), json!({"cpu": "900m", "pods": "1"}));
    assert_eq!(
        planned(std::slice::from_ref(&cpu), pods, &asks, None),
        Err("exceeded quota: q, requested: cpu=300m, used: cpu=900m, limited: cpu=1".into())
    );
    assert_eq!(
        planned(std::slice::from_ref(&cpu), pods, &plain, None),
        Err("failed quota: q: must specify cpu for: c".into())
    );
    let room = quota("q", json!({"cpu": "2", "pods": "5"}), json!({"cpu": "900m", "pods": "1"}));
    assert_eq!(planned(&[room], pods, &asks, None), Ok(vec!["q cpu=300m,pods=1".into()]));
    let fresh = quota("q", json!({"pods": "5", "memory": "1Gi"}), json!({}));
    assert_eq!(planned(&[fresh], pods, &asks, None), Err("status unknown for quota: q, resources: memory,pods".into()));
    let mut best_effort = quota("b", json!({"pods": "1"}), json!({"pods": "1"}));
    best_effort["spec"]["scopes"] = json!(["BestEffort"]);
    assert_eq!(planned(&[best_effort.clone()], pods, &asks, None), Ok(vec![]));
    assert!(planned(&[best_effort], pods, &plain, None).is_err());
}

#[test]
fn an_update_is_charged_its_difference() {
    let services = ("", "services");
    let quota = quota(
        "q",
        json!({"services": "1", "services.nodeports": "1"}),
        json!({"services": "1", "services.nodeports": "0"}),
    );
    let service = |kind: &str, ports: usize| json!({"spec": {"type": kind, "ports": vec![json!({}); ports]}});
    let plan = |new: &Value, old: &Value| planned(std::slice::from_ref(&quota), services, new, Some(old));
    let (plain, open) = (service("ClusterIP", 1), service("NodePort", 1));
    assert_eq!(plan(&open, &plain), Ok(vec!["q services.nodeports=1".into()]));
    assert_eq!(plan(&plain, &open), Ok(vec![]), "what is less the controller recounts");
    assert_eq!(
        plan(&service("NodePort", 2), &plain),
        Err("exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1"
            .into())
    );
}
