//! Lists and watches as informers count on them, on the wire: one moment in pages, versions as asked for, no event lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Http, JSON, PROTOBUF, protobuf, without_node};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Of the test's own alone.
const OURS: &str = "labelSelector=list%3Dours";

fn with_server(test: impl AsyncFnOnce(Http) -> Result<()> + Send) {
    without_node(async |_, connector| test(connector.connect().await?).await);
}

async fn put(http: &Http, name: &str, value: &str) -> Result<String> {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"value": value}, "metadata": {"name": name, "labels": {"list": "ours"}}});
    let headers = [("content-type", "application/apply-patch+yaml")];
    let path = format!("{CONFIG_MAPS}/{name}?fieldManager=test&force=true");
    let answer = http.request("PATCH", &path, &headers, object.to_string()).await?;
    ensure!(matches!(answer.code, 200 | 201), "{}", answer.text());
    Ok(version(&answer.value()?))
}

async fn delete(http: &Http, name: &str) -> Result<()> {
    http.request("DELETE", &format!("{CONFIG_MAPS}/{name}"), &[], "").await?.expect(200).map(drop)
}

async fn list(http: &Http, query: &str) -> Result<Value> {
    http.get(&format!("{CONFIG_MAPS}?{OURS}{query}"), JSON).await?.expect(200).context(query.to_owned())
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
}

/// Name and value of each item.
fn values(list: &Value) -> BTreeMap<String, String> {
    let items = list["items"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    items.map(|item| (text(&item["metadata"]["name"]), text(&item["data"]["value"]))).collect()
}

#[test]
fn pages_show_one_moment_whatever_changes_meanwhile() {
    with_server(async |http| {
        for n in 0..20 {
            put(&http, &format!("m{n:02}"), "old").await?;
        }
        let before = values(&list(&http, "").await?);
        let (mut seen, mut token, mut at) = (BTreeMap::new(), String::new(), String::new());
        for turn in 0.. {
            let page = list(&http, &format!("&limit=3&continue={token}")).await?;
            ensure!(at.is_empty() || version(&page) == at, "pages at {at} and {}", version(&page));
            at = version(&page);
            let count = page["items"].as_array().map_or(0, Vec::len);
            seen.extend(values(&page));
            ensure!(seen.len() == turn * 3 + count, "an item is there twice: {seen:?}");
            token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
            if token.is_empty() {
                break;
            }
            // Before, in and after what is still to come.
            delete(&http, &format!("m{turn:02}")).await?;
            delete(&http, &format!("m{:02}", 19 - turn)).await?;
            put(&http, &format!("m{:02}", 10 + turn), "new").await?;
            put(&http, &format!("m{:02}a", turn * 3 + 4), "new").await?;
        }
        ensure!(seen == before, "{seen:?}\nnot\n{before:?}");
        ensure!(values(&list(&http, "").await?) != before, "nothing has changed meanwhile");
        // Without a selector a page says how many more there are.
        let whole = http.get(&format!("{CONFIG_MAPS}?limit=2"), JSON).await?.expect(200)?;
        let all = http.get(CONFIG_MAPS, JSON).await?.expect(200)?["items"].as_array().map_or(0, Vec::len);
        ensure!(whole["metadata"]["remainingItemCount"] == all - 2, "{}", whole["metadata"]);
        Ok(())
    });
}

/// More than the store keeps of its history.
const FORGOTTEN: (usize, usize) = (32, 640);

#[test]
fn a_token_of_a_moment_that_is_forgotten_is_expired_and_comes_with_one_to_go_on_by() {
    with_server(async |http| {
        for name in ["a", "b", "c"] {
            put(&http, name, "old").await?;
        }
        let token = |list: &Value| list["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        let first = list(&http, "&limit=1").await?;
        put(&http, "c", "new").await?;
        let second = list(&http, &format!("&limit=5&continue={}", token(&first))).await?;
        ensure!(values(&second)["c"] == "old", "not of the first page's moment: {second}");
        let (writers, writes) = FORGOTTEN;
        let writers: Vec<_> = (0..writers)
            .map(|writer| {
                let http = http.clone();
                tokio::spawn(async move {
                    let path = format!("{CONFIG_MAPS}/w{writer:02}");
                    for turn in 0..writes {
                        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("w{writer:02}")},
                            "data": {"turn": turn.to_string()}});
                        let (method, path) = if turn == 0 { ("POST", CONFIG_MAPS) } else { ("PUT", path.as_str()) };
                        let answer = http.request(method, path, &[("content-type", JSON)], object.to_string()).await?;
                        ensure!(matches!(answer.code, 200 | 201), "{}", answer.text());
                    }
                    Ok(())
                })
            })
            .collect();
        for writer in writers {
            writer.await??;
        }
        let answer = http.get(&format!("{CONFIG_MAPS}?{OURS}&limit=5&continue={}", token(&first)), JSON).await?;
        let status = answer.value()?;
        ensure!(answer.code == 410 && status["reason"] == "Expired", "{status}");
        let told = status["message"].as_str().unwrap_or_default();
        ensure!(told.starts_with("The provided continue parameter is too old to display a consistent list"), "{told}");
        let rest = list(&http, &format!("&limit=5&continue={}", token(&status))).await?;
        let expected = [("b", "old"), ("c", "new")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        ensure!(values(&rest) == BTreeMap::from(expected), "{rest}");
        Ok(())
    });
}

#[test]
fn a_list_is_of_the_version_that_was_asked_for() {
    with_server(async |http| {
        put(&http, "a", "1").await?;
        let one = version(&list(&http, "").await?);
        put(&http, "a", "2").await?;
        let two = version(&list(&http, "").await?);
        put(&http, "a", "3").await?;
        let now = version(&list(&http, "").await?);
        let future = now.parse::<u64>()? + 1_000_000;
        for (query, wanted) in [
            (String::new(), "3"),
            ("&resourceVersion=0".to_owned(), "3"),
            (format!("&resourceVersion={one}"), "3"),
            (format!("&resourceVersion={one}&resourceVersionMatch=NotOlderThan"), "3"),
            (format!("&resourceVersion={one}&resourceVersionMatch=Exact"), "1"),
            (format!("&resourceVersion={two}&resourceVersionMatch=Exact"), "2"),
            (format!("&resourceVersion={now}&resourceVersionMatch=Exact"), "3"),
            // The rule from before there was a match.
            (format!("&resourceVersion={two}&limit=5"), "2"),
            (format!("&resourceVersion={two}&limit=5&resourceVersionMatch=NotOlderThan"), "3"),
            ("&resourceVersion=0&limit=5".to_owned(), "3"),
        ] {
            let list = list(&http, &query).await?;
            ensure!(values(&list)["a"] == wanted, "{query}: {list}");
            if query.ends_with("Exact") {
                ensure!(query.contains(&format!("resourceVersion={}&", version(&list))), "{query}: {}", version(&list));
            }
        }
        for (query, code, reason) in [
            ("&resourceVersionMatch=Exact".to_owned(), 422, "Invalid"),
            ("&resourceVersion=0&resourceVersionMatch=Exact".to_owned(), 422, "Invalid"),
            (format!("&resourceVersion={now}&resourceVersionMatch=Newest"), 422, "Invalid"),
            (format!("&resourceVersion={future}"), 504, "Timeout"),
            (format!("&resourceVersion={future}&resourceVersionMatch=NotOlderThan"), 504, "Timeout"),
        ] {
            let answer = http.get(&format!("{CONFIG_MAPS}?{OURS}{query}"), JSON).await?;
            let status = answer.value()?;
            ensure!((answer.code, &status["reason"]) == (code, &json!(reason)), "{query}: {status}");
        }
        Ok(())
    });
}

#[test]
fn a_watch_announces_what_is_and_then_that_this_was_all() {
    with_server(async |http| {
        for name in ["a", "b", "c"] {
            put(&http, name, "1").await?;
        }
        let path = format!(
            "{CONFIG_MAPS}?{OURS}&watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
        );
        let mut watch = http.watch(&path, JSON).await?;
        let mut encoded = http.watch(&path, PROTOBUF).await?;
        for name in ["a", "b", "c"] {
            let event: Value = serde_json::from_slice(&watch.line().await?.context("ended")?)?;
            ensure!(event["type"] == "ADDED" && event["object"]["metadata"]["name"] == name, "{event}");
            let (kind, object) = protobuf::event(&encoded.frame().await?.context("ended")?)?;
            ensure!(kind == "ADDED" && object.identity()?.0 == name, "{kind} {object:?}");
        }
        let event: Value = serde_json::from_slice(&watch.line().await?.context("ended")?)?;
        let end = &event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"];
        ensure!(event["type"] == "BOOKMARK" && end == "true" && event["object"]["kind"] == "ConfigMap", "{event}");
        ensure!(!version(&event["object"]).is_empty(), "{event}");
        let (kind, object) = protobuf::event(&encoded.frame().await?.context("ended")?)?;
        let text = String::from_utf8_lossy(&object.raw).into_owned();
        ensure!(kind == "BOOKMARK" && text.contains("k8s.io/initial-events-end"), "{kind} {object:?}");
        let written = put(&http, "d", "1").await?;
        let event: Value = serde_json::from_slice(&watch.line().await?.context("ended")?)?;
        ensure!(event["type"] == "ADDED" && version(&event["object"]) == written, "{event}");
        Ok(())
    });
}

#[test]
fn a_watch_ends_in_time_and_goes_on_where_it_was() {
    with_server(async |http| {
        let from = version(&list(&http, "").await?);
        let start = Instant::now();
        let mut watch = http
            .watch(&format!("{CONFIG_MAPS}?{OURS}&watch=true&timeoutSeconds=1&resourceVersion={from}"), JSON)
            .await?;
        let written = put(&http, "a", "1").await?;
        let event: Value = serde_json::from_slice(&watch.line().await?.context("ended")?)?;
        ensure!(version(&event["object"]) == written, "{event}");
        ensure!(watch.line().await?.is_none(), "it goes on after its time");
        ensure!(start.elapsed() >= Duration::from_secs(1), "it ended after {:?}", start.elapsed());
        // What is written while nobody watches is not lost.
        let later = [put(&http, "a", "2").await?, put(&http, "b", "1").await?];
        let mut watch = http.watch(&format!("{CONFIG_MAPS}?{OURS}&watch=true&resourceVersion={written}"), JSON).await?;
        for wanted in later {
            let event: Value = serde_json::from_slice(&watch.line().await?.context("ended")?)?;
            ensure!(version(&event["object"]) == wanted, "{event}, not {wanted}");
        }
        // A version that no longer, or does not yet, mean anything.
        let gone = http.get(&format!("{CONFIG_MAPS}?watch=true&resourceVersion=new"), JSON).await?;
        ensure!(gone.code == 400, "{}", gone.text());
        Ok(())
    });
}
