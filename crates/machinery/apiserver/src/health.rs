//! `/healthz`, `/livez` and `/readyz`, with named checks.

use std::fmt::Write as _;
use std::sync::Arc;

use http::{Response, StatusCode};
use machinery_registry::Body;

use crate::query::Query;
use crate::respond;

/// One named condition. It is asked on every probe, so it must only look at state that is kept anyway.
#[derive(Clone)]
pub struct HealthCheck {
    pub name: &'static str,
    /// Counts for `/readyz` only; else for all three.
    pub readiness_only: bool,
    /// `Err` holds why not, for the log.
    pub check: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl HealthCheck {
    pub fn live(name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { name, readiness_only: false, check: Arc::new(check) }
    }

    pub fn ready(name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { name, readiness_only: true, check: Arc::new(check) }
    }
}

const ENDPOINTS: [&str; 3] = ["healthz", "livez", "readyz"];

/// What a caller without credentials may read.
pub(crate) fn is_public(path: &str) -> bool {
    matches!(path, "/healthz" | "/livez" | "/readyz" | "/version" | "/version/")
}

/// Splits `/readyz/etcd` into endpoint and check.
pub(crate) fn route(path: &str) -> Option<(&'static str, &str)> {
    let rest = path.strip_prefix('/')?;
    let (head, check) = rest.split_once('/').unwrap_or((rest, ""));
    ENDPOINTS.into_iter().find(|endpoint| *endpoint == head).map(|endpoint| (endpoint, check))
}

pub(crate) fn answer(checks: &[HealthCheck], endpoint: &str, one: &str, query: &Query<'_>) -> Response<Body> {
    let mut counted = checks.iter().filter(|check| endpoint == "readyz" || !check.readiness_only);
    if !one.is_empty() {
        return match counted.find(|check| check.name == one).map(|check| (check.check)()) {
            None => respond::text(StatusCode::NOT_FOUND, "404 page not found\n"),
            Some(Ok(())) => respond::text(StatusCode::OK, "ok"),
            Some(Err(why)) => {
                respond::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n"))
            }
        };
    }

    let mut report = String::new();
    let mut failed = false;
    let mut unknown: Vec<&str> = query.all("exclude").filter(|name| !name.is_empty()).collect();
    unknown.sort_unstable();
    unknown.dedup();
    for HealthCheck { name, check, .. } in counted {
        // Writing to a string does not fail.
        let excluded = unknown.iter().position(|excluded| excluded == name);
        let _ = if let Some(at) = excluded {
            unknown.remove(at);
            writeln!(report, "[+]{name} excluded: ok")
        } else if let Err(why) = check() {
            tracing::info!(endpoint, check = name, %why, "health check failed");
            failed = true;
            writeln!(report, "[-]{name} failed: reason withheld")
        } else {
            writeln!(report, "[+]{name} ok")
        };
    }
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(", ");
        let _ = writeln!(report, "warn: some health checks cannot be excluded: no matches for {names}");
    }
    if failed {
        let _ = writeln!(report, "{endpoint} check failed");
        respond::text(StatusCode::INTERNAL_SERVER_ERROR, report)
    } else if query.get("verbose").is_some() {
        let _ = writeln!(report, "{endpoint} check passed");
        respond::text(StatusCode::OK, report)
    } else {
        respond::text(StatusCode::OK, "ok")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::BodyExt;

    async fn ask(path: &str, query: &str) -> (u16, String) {
        let checks = [HealthCheck::live("ping", || Ok(())), HealthCheck::ready("cache", || Err("not synced".into()))];
        let (endpoint, one) = route(path).unwrap();
        let response = answer(&checks, endpoint, one, &Query::parse(query).unwrap());
        let code = response.status().as_u16();
        (code, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn checks_are_named_and_excluded() {
        assert_eq!(ask("/livez", "").await, (200, "ok".into()));
        assert_eq!(ask("/livez", "verbose").await, (200, "[+]ping ok\nlivez check passed\n".into()));
        let failed = "[+]ping ok\n[-]cache failed: reason withheld\nreadyz check failed\n";
        assert_eq!(ask("/readyz", "").await, (500, failed.into()));
        assert_eq!(ask("/readyz", "exclude=cache").await, (200, "ok".into()));
        let warned = "[+]ping ok\nwarn: some health checks cannot be excluded: no matches for \"a\", \"b\"\nlivez check passed\n";
        assert_eq!(ask("/livez", "exclude=b&exclude=a&verbose").await, (200, warned.into()));
        assert_eq!(ask("/readyz/ping", "").await, (200, "ok".into()));
        assert_eq!(ask("/readyz/cache", "").await.0, 500);
        assert_eq!(ask("/livez/cache", "").await.0, 404);
        assert!(route("/healthzz").is_none());
    }
}
