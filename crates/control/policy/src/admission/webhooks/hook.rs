//! One webhook of a configuration, as far as calling it goes.

use std::time::Duration;

use machinery_dial::{ClientConfig, Dialer, Server};
use serde::Deserialize;
use serde_json::Value;

use super::super::expressions::Conditions;
use super::super::matching::{Criteria, NoRules};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Mutating,
    Validating,
}

impl Flavour {
    pub(super) const fn resource(self) -> &'static str {
        match self {
            Self::Mutating => "mutatingwebhookconfigurations",
            Self::Validating => "validatingwebhookconfigurations",
        }
    }
}

/// What of `AdmissionReview` it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReviewVersion {
    V1,
    V1Beta1,
}

impl ReviewVersion {
    pub(super) const fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

pub(super) struct Hook {
    pub(super) name: String,
    pub(super) configuration: String,
    /// Tells it from every other.
    pub(super) id: String,
    pub(super) criteria: Criteria,
    pub(super) conditions: Conditions,
    /// A configuration that nothing can be called with is told to whoever would have been reviewed.
    pub(super) server: Result<Server, String>,
    /// `failurePolicy: Ignore`.
    pub(super) fails_open: bool,
    /// `reinvocationPolicy: IfNeeded`.
    pub(super) reinvoked: bool,
    /// Whether a dry run may reach it.
    pub(super) dry_runs: bool,
    pub(super) timeout: Duration,
    pub(super) speaks: Option<ReviewVersion>,
}

/// What upstream's defaulting leaves of a webhook.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    name: String,
    client_config: ClientConfig,
    failure_policy: Option<String>,
    reinvocation_policy: Option<String>,
    side_effects: Option<String>,
    timeout_seconds: Option<u16>,
    admission_review_versions: Vec<String>,
}

const TIMEOUT: u16 = 10;

impl Hook {
    /// The webhooks of one configuration, in its order.
    pub(super) fn all_of(configuration: &Value, dialer: &Dialer) -> Result<Vec<Self>, String> {
        let name = super::super::text(configuration, "/metadata/name");
        let webhooks = configuration.get("webhooks").and_then(Value::as_array);
        let webhooks = webhooks.into_iter().flatten().enumerate();
        webhooks.map(|(index, webhook)| Self::parse(name, index, webhook, dialer)).collect()
    }

    fn parse(configuration: &str, index: usize, webhook: &Value, dialer: &Dialer) -> Result<Self, String> {
        let written = Written::deserialize(webhook).map_err(|error| error.to_string())?;
        let speaks = written.admission_review_versions.iter().find_map(|version| match version.as_str() {
            "v1" => Some(ReviewVersion::V1),
            "v1beta1" => Some(ReviewVersion::V1Beta1),
            _ => None,
        });
        Ok(Self {
            id: format!("{configuration}/{}/{index}", written.name),
            configuration: configuration.to_owned(),
            criteria: Criteria::parse(webhook, NoRules::Nothing)?,
            conditions: Conditions::of_webhook(webhook),
            server: dialer.server(&written.client_config).map_err(|error| error.to_string()),
            fails_open: written.failure_policy.as_deref() == Some("Ignore"),
            reinvoked: written.reinvocation_policy.as_deref() == Some("IfNeeded"),
            dry_runs: matches!(written.side_effects.as_deref(), Some("None" | "NoneOnDryRun")),
            timeout: Duration::from_secs(written.timeout_seconds.unwrap_or(TIMEOUT).into()),
            speaks,
            name: written.name,
        })
    }
}
