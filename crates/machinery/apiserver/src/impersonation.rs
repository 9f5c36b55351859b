//! `Impersonate-*` headers (`kubectl --as`): a caller who may acts as someone else, and everyone else is refused.

use std::sync::Arc;

use base_meta::Status;
use http::HeaderMap;
use machinery_registry::UserInfo;

use crate::authentication;
use crate::authorization::{self, Action, Attributes, Authorizer};
use crate::path;

const PREFIX: &str = "impersonate-";
const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

const ANONYMOUS: &str = "system:anonymous";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// Who the request is really to be served as. Each name asked for is a right of its own, as upstream's.
pub(crate) async fn apply(
    authorizers: &[Arc<dyn Authorizer>],
    caller: Arc<UserInfo>,
    headers: &HeaderMap,
) -> Result<Arc<UserInfo>, Status> {
    let Some(wanted) = wanted(headers)? else { return Ok(caller) };
    for right in rights(&wanted) {
        let Right { group, resource, subresource, namespace, name } = right;
        let action = Action::Resource { group, version: "v1", resource, subresource, namespace, name };
        authorization::authorize(authorizers, &Attributes { user: &caller, verb: "impersonate", action }).await?;
    }
    Ok(Arc::new(completed(wanted)))
}

/// `None`: no such header.
fn wanted(headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
    let (mut user, mut any) = (UserInfo::default(), false);
    for (header, value) in headers {
        let Some(_) = header.as_str().strip_prefix(PREFIX) else { continue };
        any = true;
        let value =
            value.to_str().map_err(|_| Status::bad_request(format!("the header {header} is not text")))?.to_owned();
        match header.as_str() {
            USER => user.name = value,
            UID => user.uid = value,
            GROUP => user.groups.push(value),
            other => match other.strip_prefix(EXTRA) {
                Some(key) => user.extra.entry(path::decode(key)?.into_owned()).or_default().push(value),
                None => return Err(Status::bad_request(format!("the header {header} is not known"))),
            },
        }
    }
    if any && user.name.is_empty() {
        // Upstream's code for this, too.
        return Err(Status::internal("groups, extra or uid are requested without impersonating a user"));
    }
    Ok(any.then_some(user))
}

struct Right<'a> {
    group: &'a str,
    resource: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
}

fn rights(user: &UserInfo) -> Vec<Right<'_>> {
    const AUTHENTICATION: &str = "authentication.k8s.io";
    let plain = |group, resource, name| Right { group, resource, subresource: "", namespace: "", name };
    let mut rights = vec![match service_account(&user.name) {
        Some((namespace, name)) => Right { namespace, ..plain("", "serviceaccounts", name) },
        None => plain("", "users", &user.name),
    }];
    rights.extend(user.groups.iter().map(|name| plain("", "groups", name)));
    if !user.uid.is_empty() {
        rights.push(plain(AUTHENTICATION, "uids", &user.uid));
    }
    for (key, values) in &user.extra {
        let extras = values.iter().map(|value| plain(AUTHENTICATION, "userextras", value));
        rights.extend(extras.map(|right| Right { subresource: key, ..right }));
    }
    rights
}

/// With the groups that authentication would have found.
fn completed(mut user: UserInfo) -> UserInfo {
    if let Some((namespace, _)) = service_account(&user.name)
        && user.groups.is_empty()
    {
        user.groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
    }
    if user.name == ANONYMOUS {
        if !user.groups.iter().any(|group| group == UNAUTHENTICATED) {
            user.groups.push(UNAUTHENTICATED.into());
        }
        return user;
    }
    if user.groups.iter().any(|group| group == UNAUTHENTICATED) {
        return user;
    }
    Arc::unwrap_or_clone(authentication::authenticated(Arc::new(user)))
}

/// Namespace and name.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::authorization::Decision;

    /// Lets `root` be anyone, and `deputy` be `jane` alone.
    struct Table;

    #[async_trait::async_trait]
    impl Authorizer for Table {
        async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
            assert_eq!(attributes.verb, "impersonate");
            let jane = matches!(attributes.action, Action::Resource { resource: "users", name: "jane", .. });
            match attributes.user.name.as_str() {
                "root" => Decision::Allow,
                "deputy" if jane => Decision::Allow,
                _ => Decision::NoOpinion { reason: String::new() },
            }
        }
    }

    async fn ask(caller: &str, headers: &[(&'static str, &str)]) -> Result<UserInfo, Status> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let caller = Arc::new(UserInfo { name: caller.into(), ..UserInfo::default() });
        apply(&[Arc::new(Table)], caller, &map).await.map(Arc::unwrap_or_clone)
    }

    #[tokio::test]
    async fn without_headers_nobody_changes() {
        assert_eq!(ask("nobody", &[("accept", "*/*")]).await.unwrap().name, "nobody");
    }

    #[tokio::test]
    async fn who_may_becomes_the_user_and_loses_its_own_groups() {
        let jane = ask("deputy", &[(USER, "jane")]).await.unwrap();
        assert_eq!((jane.name.as_str(), jane.groups), ("jane", vec!["system:authenticated".to_owned()]));
        let headers = [(USER, "jane"), (GROUP, "a"), (GROUP, "b"), ("impersonate-extra-scopes%2fx", "s"), (UID, "7")];
        let jane = ask("root", &headers).await.unwrap();
        assert_eq!(jane.groups, ["a", "b", "system:authenticated"]);
        assert_eq!(jane.extra, BTreeMap::from([("scopes/x".to_owned(), vec!["s".to_owned()])]));
        assert_eq!(jane.uid, "7");
        let account = ask("root", &[(USER, "system:serviceaccount:ns:builder")]).await.unwrap();
        let groups = ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"];
        assert_eq!(account.groups, groups);
        let anonymous = ask("root", &[(USER, ANONYMOUS)]).await.unwrap();
        assert_eq!(anonymous.groups, [UNAUTHENTICATED]);
    }

    #[tokio::test]
    async fn who_may_not_is_refused_whatever_part_it_is() {
        for headers in [
            &[(USER, "root")][..],
            &[(USER, "jane"), (GROUP, "system:masters")],
            &[(USER, "jane"), (UID, "7")],
            &[(USER, "jane"), ("impersonate-extra-x", "y")],
            &[(USER, "system:serviceaccount:ns:jane")],
        ] {
            assert_eq!(ask("deputy", headers).await.unwrap_err().code, 403, "{headers:?}");
        }
        let refused = ask("nobody", &[(USER, "jane")]).await.unwrap_err();
        assert_eq!(
            refused.message,
            "users \"jane\" is forbidden: User \"nobody\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
        );
    }

    #[tokio::test]
    async fn incomplete_and_unknown_requests_fail() {
        assert_eq!(ask("root", &[(GROUP, "a")]).await.unwrap_err().code, 500);
        assert_eq!(ask("root", &[(USER, "jane"), ("impersonate-color", "red")]).await.unwrap_err().code, 400);
    }
}
