//! Deletes bootstrap tokens at the moment they expire.

use api::bootstrap_token::{self as token, Expiry};
use base_tasks::Tasks;
use jiff::Timestamp;
use machinery_client::kube::api::{ApiResource, DeleteParams, DynamicObject, Preconditions};
use machinery_client::kube::core::GroupVersionKind;
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, ObjectKey, informer};

use crate::reconcile::{self, During, is_code};

/// All that is kept of a token: never its secret.
struct Token {
    uid: Option<String>,
    /// Of an expiration that is none, long ago.
    ends: Option<Timestamp>,
}

fn facts(secret: DynamicObject) -> Token {
    let now = Timestamp::now();
    let ends = match token::expiry(&secret.data, now) {
        Expiry::Never => None,
        Expiry::In(left) => now.checked_add(left).ok(),
        Expiry::Past => Some(Timestamp::UNIX_EPOCH),
    };
    Token { uid: secret.metadata.uid, ends }
}

pub fn start(tasks: &Tasks, client: &Client) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Secret"));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), token::NAMESPACE, &resource);
    let ours = Config::default().fields(&format!("type={}", token::SECRET_TYPE));
    let tokens = informer(tasks, api.clone(), ours, |secret| Some(facts(secret)));
    let queue = reconcile::queue::<ObjectKey>();
    reconcile::wake(tasks, &tokens, {
        let queue = queue.clone();
        move |change| {
            if let Change::Applied { key, .. } = change {
                queue.add(key.clone());
            }
        }
    });
    reconcile::run(tasks, &queue, 1, std::future::ready(()), move |key| {
        let (api, token) = (api.clone(), tokens.get(&key));
        async move {
            let Some(token) = token else { return Ok(None) };
            let Some(ends) = token.ends else { return Ok(None) };
            let left = ends.duration_since(Timestamp::now());
            if left.is_positive() {
                return Ok(left.try_into().ok());
            }
            // Not one that was made anew meanwhile.
            let same = Preconditions { uid: token.uid.clone(), resource_version: None };
            match api.delete(&key.name, &DeleteParams::default().preconditions(same)).await {
                Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(None),
                other => other.map(|_| None).during("deleting an expired bootstrap token"),
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_never_ends_is_left_alone() {
        let of = |data| {
            facts(serde_json::from_value(json!({"metadata": {"uid": "1"}, "data": data})).expect("a Secret")).ends
        };
        assert_eq!(of(json!({})), None);
        // "soon"
        assert_eq!(of(json!({"expiration": "c29vbg=="})), Some(Timestamp::UNIX_EPOCH));
        // 2999-01-01T00:00:00Z
        let far = of(json!({"expiration": "Mjk5OS0wMS0wMVQwMDowMDowMFo="})).expect("an end");
        assert!(far > "2998-12-31T23:00:00Z".parse().expect("a time"), "{far}");
    }
}
