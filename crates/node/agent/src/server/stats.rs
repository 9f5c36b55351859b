//! What the node and its pods use, as upstream's paths tell it.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use super::{Body, full, json, text};
use crate::pods::Machine;
use crate::seams::chain;
use crate::stats::Stats;

/// Tells in milliseconds what the rates of a summary are an average of; upstream's nodes do not say.
const WINDOW: &str = "sampan-stats-window-ms";

pub(super) async fn resource(machine: &Machine) -> Response<Body> {
    let mut response = Response::new(full(Stats::resource(machine).await));
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

pub(super) async fn summary(machine: &Machine, query: &[(String, String)]) -> Response<Body> {
    let wanted = query.iter().find(|(name, _)| name == "only_cpu_and_memory").map(|(_, value)| value.as_str());
    let less = match wanted {
        None | Some("false" | "0") => false,
        Some("" | "true" | "1") => true,
        Some(other) => {
            let message = format!("invalid value {other:?} for only_cpu_and_memory: must be true or false\n");
            return text(StatusCode::BAD_REQUEST, message);
        }
    };
    match machine.stats.summary(machine, !less).await {
        Ok(summary) => {
            let mut response = json(&summary.json);
            let window = u64::try_from(summary.window.as_millis()).unwrap_or_default();
            response.headers_mut().insert(WINDOW, HeaderValue::from(window));
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{}\n", chain(&error))),
    }
}
