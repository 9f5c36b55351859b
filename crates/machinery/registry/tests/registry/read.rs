use base_meta::Reason;
use base_meta::selector::{FieldSelector, LabelSelector};
use machinery_registry::request::VersionMatch;
use machinery_registry::resource::List;
use machinery_registry::{ListOptions, RequestContext, Resource};
use machinery_storage::Revision;
use serde_json::json;

use crate::widget::{Setup, merge, setup, widget};

fn names(list: &List) -> Vec<&str> {
    list.items.iter().map(|object| &*object.meta.name).collect()
}

fn fields(text: &str) -> ListOptions {
    ListOptions { fields: FieldSelector::parse(text).unwrap(), ..ListOptions::default() }
}

async fn five() -> Setup {
    let setup = setup().await;
    for name in ["a", "b", "c", "d", "e"] {
        setup.create(widget(name)).await;
    }
    setup
}

#[tokio::test]
async fn get_waits_for_the_version_it_asks_for() {
    let setup = setup().await;
    let made = setup.create(widget("one")).await;
    let version = made["metadata"]["resourceVersion"].as_str().unwrap();
    for asked in ["", "0", version] {
        let found = setup.registry.get(&setup.ctx, "one", asked).await.unwrap();
        assert_eq!(found.to_value().unwrap(), made);
    }
    let error = setup.registry.get(&setup.ctx, "one", "999").await.unwrap_err();
    assert_eq!(error.code, 504);
    assert!(error.message.contains("Too large resource version: 999"), "{error}");
    let error = setup.registry.get(&setup.ctx, "one", "x").await.unwrap_err();
    assert_eq!(error.reason, Reason::BadRequest);
}

#[tokio::test]
async fn selectors_choose() {
    let setup = five().await;
    setup.patch("b", merge(json!({"spec": {"color": "blue"}}))).await.unwrap();
    let list = async |options: ListOptions| setup.registry.list(&setup.ctx, &options).await.unwrap();
    assert_eq!(names(&list(ListOptions::default()).await), ["a", "b", "c", "d", "e"]);
    assert_eq!(names(&list(fields("spec.color=blue")).await), ["b"]);
    assert_eq!(names(&list(fields("spec.color!=blue,metadata.name!=a")).await), ["c", "d", "e"]);
    assert_eq!(names(&list(fields("metadata.name=c")).await), ["c"]);
    assert!(names(&list(fields("metadata.name=c,spec.color=blue")).await).is_empty());
    assert!(names(&list(fields("metadata.namespace=other")).await).is_empty());
    let labels = ListOptions { labels: LabelSelector::parse("app notin (a,b)").unwrap(), ..ListOptions::default() };
    assert_eq!(names(&list(labels).await), ["c", "d", "e"]);
    let everywhere = RequestContext { namespace: None, ..setup.ctx.clone() };
    assert_eq!(names(&setup.registry.list(&everywhere, &fields("metadata.name=c")).await.unwrap()), ["c"]);
    let error = setup.registry.list(&setup.ctx, &fields("spec.size=1")).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (400, "field label not supported: spec.size"));
}

#[tokio::test]
async fn a_list_is_only_of_its_namespace() {
    let setup = setup().await;
    setup.create(widget("one")).await;
    let other = RequestContext { namespace: Some("def".into()), ..setup.ctx.clone() };
    assert!(setup.registry.list(&other, &ListOptions::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn pages_show_one_moment() {
    let setup = five().await;
    let mut options = ListOptions { limit: 2, ..ListOptions::default() };
    let first = setup.registry.list(&setup.ctx, &options).await.unwrap();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first.remaining, Some(3));
    setup.create(widget("bb")).await;
    setup.patch("c", merge(json!({"spec": {"color": "blue"}}))).await.unwrap();

    options.continue_token = first.continue_token.clone();
    let second = setup.registry.list(&setup.ctx, &options).await.unwrap();
    assert_eq!((names(&second), second.revision), (vec!["c", "d"], first.revision));
    assert_eq!(second.items[0].to_value().unwrap()["spec"]["color"], "red");
    options.continue_token = second.continue_token;
    let last = setup.registry.list(&setup.ctx, &options).await.unwrap();
    assert_eq!((names(&last), last.continue_token.as_str(), last.remaining), (vec!["e"], "", None));
}

#[tokio::test]
async fn a_page_of_forgotten_history_names_a_way_on() {
    let setup = five().await;
    let mut options = ListOptions { limit: 2, ..ListOptions::default() };
    let first = setup.registry.list(&setup.ctx, &options).await.unwrap();
    setup.create(widget("bb")).await;
    let now = setup.revision().await;
    setup.storage.compact(Revision(now)).await.unwrap();
    let setup = setup.again().await;

    options.continue_token = first.continue_token;
    let error = setup.registry.list(&setup.ctx, &options).await.unwrap_err();
    assert_eq!((error.code, error.reason), (410, Reason::Expired));
    options.continue_token = error.metadata.continue_token;
    let second = setup.registry.list(&setup.ctx, &options).await.unwrap();
    assert_eq!(names(&second), ["bb", "c"]);

    options.continue_token = "forged".into();
    assert_eq!(setup.registry.list(&setup.ctx, &options).await.unwrap_err().message, "continue key is not valid");
}

/// Upstream's table of `resourceVersion` and `resourceVersionMatch`, paged and not.
#[tokio::test]
async fn which_state_a_list_shows() {
    use VersionMatch::{Exact, NotOlderThan};
    let setup = five().await;
    let then = setup.revision().await.to_string();
    setup.create(widget("f")).await;
    let unset = "resourceVersionMatch is forbidden unless resourceVersion is provided";
    let zero = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
    type Case<'a> = (&'a str, Option<VersionMatch>, [Result<usize, &'a str>; 2]);
    let cases: [Case<'_>; 9] = [
        ("", None, [Ok(6), Ok(6)]),
        ("0", None, [Ok(6), Ok(6)]),
        (&then, None, [Ok(6), Ok(5)]),
        ("", Some(Exact), [Err(unset); 2]),
        ("0", Some(Exact), [Err(zero); 2]),
        (&then, Some(Exact), [Ok(5), Ok(5)]),
        ("", Some(NotOlderThan), [Err(unset); 2]),
        ("0", Some(NotOlderThan), [Ok(6), Ok(6)]),
        (&then, Some(NotOlderThan), [Ok(6), Ok(6)]),
    ];
    for (version, version_match, expected) in cases {
        for (limit, expected) in [0, 100].into_iter().zip(expected) {
            let options =
                ListOptions { resource_version: version.into(), version_match, limit, ..ListOptions::default() };
            let place = format!("{version:?} {version_match:?} limit {limit}");
            match (setup.registry.list(&setup.ctx, &options).await, expected) {
                (Ok(list), Ok(count)) => assert_eq!(list.items.len(), count, "{place}"),
                (Err(error), Err(message)) => {
                    assert_eq!(error.reason, Reason::Invalid, "{place}");
                    assert!(error.message.contains(message), "{place}: {error}");
                }
                (other, _) => panic!("{place}: {other:?}"),
            }
        }
    }
    for (version, code) in [("999", 504), ("x", 400)] {
        let options = ListOptions { resource_version: version.into(), ..ListOptions::default() };
        assert_eq!(setup.registry.list(&setup.ctx, &options).await.unwrap_err().code, code);
    }
}

#[tokio::test]
async fn a_page_says_nothing_of_versions() {
    let setup = five().await;
    let first = ListOptions { limit: 2, ..ListOptions::default() };
    let continue_token = setup.registry.list(&setup.ctx, &first).await.unwrap().continue_token;
    let page = |resource_version: &str, version_match| ListOptions {
        continue_token: continue_token.clone(),
        resource_version: resource_version.into(),
        version_match,
        ..ListOptions::default()
    };
    assert_eq!(setup.registry.list(&setup.ctx, &page("0", None)).await.unwrap().items.len(), 3);
    let error = setup.registry.list(&setup.ctx, &page("3", None)).await.unwrap_err();
    assert_eq!(error.message, "specifying resource version is not allowed when using continue");
    let error = setup.registry.list(&setup.ctx, &page("3", Some(VersionMatch::Exact))).await.unwrap_err();
    assert!(error.message.contains("resourceVersionMatch is forbidden when continue is provided"), "{error}");
}

#[tokio::test]
async fn an_exact_version_that_is_forgotten_is_gone() {
    let setup = five().await;
    let then = setup.revision().await.to_string();
    setup.create(widget("f")).await;
    setup.create(widget("g")).await;
    setup.storage.compact(Revision(setup.revision().await)).await.unwrap();
    let exact =
        ListOptions { resource_version: then, version_match: Some(VersionMatch::Exact), ..ListOptions::default() };
    let setup = setup.again().await;
    let error = setup.registry.list(&setup.ctx, &exact).await.unwrap_err();
    assert_eq!((error.code, error.reason), (410, Reason::Expired));
    assert_eq!(error.message, "The resourceVersion for the provided list is too old.");
}

#[tokio::test]
async fn rows_and_typed_reads_answer() {
    let setup = five().await;
    let found = setup.registry.get(&setup.ctx, "a", "").await.unwrap();
    assert_eq!(setup.registry.row(&found).unwrap(), [json!("a")]);
    assert_eq!(setup.registry.get_typed(&setup.ctx, "a").await.unwrap().spec.color, "red");
    assert_eq!(setup.registry.list_typed(Some("default")).await.unwrap().len(), 5);
    assert_eq!(setup.registry.list_typed(None).await.unwrap().len(), 5);
}
