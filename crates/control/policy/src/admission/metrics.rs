//! What admission tells `/metrics`, under upstream's names.

use std::sync::Arc;
use std::time::Duration;

use machinery_registry::{Observer, Operation, Step};
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Upstream's buckets, in seconds.
fn of_steps() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.5, 1.0, 2.5])
}

fn of_webhooks() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0])
}

fn of_expressions() -> Histogram {
    Histogram::new([0.000_000_5, 0.001, 0.01, 0.1, 1.0])
}

/// A counter whose name upstream ends in `_count`: OpenMetrics would have it end in `_total`.
#[derive(Clone, Debug, Default)]
struct Count(Counter);

impl TypedMetric for Count {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for Count {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_gauge(&self.0.get())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginLabels {
    name: String,
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectionLabels {
    error_type: &'static str,
    name: String,
    operation: &'static str,
    rejection_code: u16,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailOpenLabels {
    name: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    code: u16,
    name: String,
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    enforcement_action: &'static str,
    error_type: &'static str,
    policy: String,
    policy_binding: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MutationLabels {
    error_type: &'static str,
    policy: String,
    policy_binding: String,
}

const fn written(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}

/// One call of a webhook.
pub(super) struct Call<'a> {
    pub(super) webhook: &'a str,
    /// `admit` or `validating`.
    pub(super) kind: &'static str,
    pub(super) operation: Operation,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Allowed,
    Denied {
        code: u16,
    },
    /// There is no answer.
    Unanswered {
        code: u16,
        fails_open: bool,
    },
    /// It could not even be asked, or not be believed.
    Refused,
}

/// What went wrong with an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Compile,
    OutOfBudget,
    Invalid,
}

impl Fault {
    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "no_error",
            Self::Compile => "compile_error",
            Self::OutOfBudget => "out_of_budget",
            Self::Invalid => "invalid_error",
        }
    }
}

pub struct AdmissionMetrics {
    steps: Histograms<StepLabels>,
    plugins: Histograms<PluginLabels>,
    webhooks: Histograms<PluginLabels>,
    rejections: Family<RejectionLabels, Count>,
    fail_open: Family<FailOpenLabels, Count>,
    requests: Family<RequestLabels, Counter>,
    checks: Family<CheckLabels, Counter>,
    check_durations: Histograms<CheckLabels>,
    mutations: Family<MutationLabels, Counter>,
    mutation_durations: Histograms<MutationLabels>,
}

impl Default for AdmissionMetrics {
    fn default() -> Self {
        Self {
            steps: Family::new_with_constructor(of_steps),
            plugins: Family::new_with_constructor(of_steps),
            webhooks: Family::new_with_constructor(of_webhooks),
            rejections: Family::default(),
            fail_open: Family::default(),
            requests: Family::default(),
            checks: Family::default(),
            check_durations: Family::new_with_constructor(of_expressions),
            mutations: Family::default(),
            mutation_durations: Family::new_with_constructor(of_expressions),
        }
    }
}

impl AdmissionMetrics {
    pub fn register(self: Arc<Self>, registry: &mut Registry) {
        let admission = registry.sub_registry_with_prefix("apiserver_admission");
        let help = "Time of a whole admission step, in seconds";
        admission.register("step_admission_duration_seconds", help, self.steps.clone());
        let help = "Time of one admission plug-in, in seconds";
        admission.register("controller_admission_duration_seconds", help, self.plugins.clone());
        let help = "Time of one call of a webhook, in seconds";
        admission.register("webhook_admission_duration_seconds", help, self.webhooks.clone());
        admission.register("webhook_rejection_count", "Requests that webhooks rejected", self.rejections.clone());
        let help = "Calls of webhooks that failed and were ignored";
        admission.register("webhook_fail_open_count", help, self.fail_open.clone());
        admission.register("webhook_request", "Calls of webhooks", self.requests.clone());
        let validating = registry.sub_registry_with_prefix("apiserver_validating_admission_policy");
        validating.register("check", "Outcomes of validating policies", self.checks.clone());
        let help = "Time of one expression of a validating policy, in seconds";
        validating.register("check_duration_seconds", help, self.check_durations.clone());
        let mutating = registry.sub_registry_with_prefix("apiserver_mutating_admission_policy");
        mutating.register("check", "Mutations of mutating policies", self.mutations.clone());
        let help = "Time of one expression of a mutating policy, in seconds";
        mutating.register("check_duration_seconds", help, self.mutation_durations.clone());
    }

    pub(super) fn called(&self, call: &Call<'_>, took: Duration, outcome: Outcome) {
        let (name, operation) = (call.webhook.to_owned(), call.operation.as_str());
        let rejected = |error_type, rejection_code: u16| {
            let rejection_code = rejection_code.min(600);
            let labels =
                RejectionLabels { error_type, name: name.clone(), operation, rejection_code, r#type: call.kind };
            self.rejections.get_or_create(&labels).0.inc();
        };
        let (code, rejects) = match outcome {
            Outcome::Allowed => (200, false),
            Outcome::Denied { code } => {
                rejected("no_error", code);
                (code, true)
            }
            Outcome::Unanswered { code, fails_open: true } => {
                let labels = FailOpenLabels { name: name.clone(), r#type: call.kind };
                self.fail_open.get_or_create(&labels).0.inc();
                (code, false)
            }
            Outcome::Unanswered { code, fails_open: false } => {
                rejected("calling_webhook_error", code);
                (code, true)
            }
            Outcome::Refused => {
                rejected("apiserver_internal_error", 0);
                (0, true)
            }
        };
        let rejected = written(rejects);
        let labels = RequestLabels { code: code.min(600), name: name.clone(), operation, rejected, r#type: call.kind };
        self.requests.get_or_create(&labels).inc();
        let labels = PluginLabels { name, operation, rejected, r#type: call.kind };
        self.webhooks.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// One expression of a validating policy that was not simply true, and what was done about it.
    pub(super) fn checked(&self, policy: &str, binding: &str, fault: Fault, action: &'static str, took: Duration) {
        let labels = CheckLabels {
            enforcement_action: action,
            error_type: fault.as_str(),
            policy: policy.to_owned(),
            policy_binding: binding.to_owned(),
        };
        self.checks.get_or_create(&labels).inc();
        self.check_durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(super) fn mutated(&self, policy: &str, binding: &str, fault: Fault, took: Duration) {
        let error_type = fault.as_str();
        let labels = MutationLabels { error_type, policy: policy.to_owned(), policy_binding: binding.to_owned() };
        self.mutations.get_or_create(&labels).inc();
        self.mutation_durations.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

impl Observer for AdmissionMetrics {
    fn admitted(&self, plugin: Option<&'static str>, step: Step, operation: Operation, rejected: bool, took: Duration) {
        let (operation, rejected) = (operation.as_str(), written(rejected));
        let r#type = match step {
            Step::Mutate => "admit",
            Step::Validate => "validate",
        };
        let took = took.as_secs_f64();
        match plugin {
            None => self.steps.get_or_create(&StepLabels { operation, rejected, r#type }).observe(took),
            Some(name) => {
                let labels = PluginLabels { name: name.to_owned(), operation, rejected, r#type };
                self.plugins.get_or_create(&labels).observe(took);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_upstreams() {
        let (metrics, mut registry) = (Arc::new(AdmissionMetrics::default()), Registry::default());
        metrics.clone().register(&mut registry);
        let second = Duration::from_secs(1);
        metrics.admitted(None, Step::Mutate, Operation::Create, false, second);
        metrics.admitted(Some("LimitRanger"), Step::Validate, Operation::Update, true, second);
        let call = Call { webhook: "w", kind: "admit", operation: Operation::Create };
        for outcome in [
            Outcome::Allowed,
            Outcome::Denied { code: 1000 },
            Outcome::Unanswered { code: 503, fails_open: true },
            Outcome::Unanswered { code: 503, fails_open: false },
            Outcome::Refused,
        ] {
            metrics.called(&call, second, outcome);
        }
        metrics.checked("p", "b", Fault::None, "deny", second);
        metrics.mutated("p", "b", Fault::Compile, second);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        let of_webhook = |more: &str| format!("{more}name=\"w\",operation=\"CREATE\"");
        for line in [
            "apiserver_admission_step_admission_duration_seconds_sum{operation=\"CREATE\",rejected=\"false\",type=\"admit\"} 1.0".to_owned(),
            "apiserver_admission_controller_admission_duration_seconds_count{name=\"LimitRanger\",operation=\"UPDATE\",rejected=\"true\",type=\"validate\"} 1".to_owned(),
            format!("apiserver_admission_webhook_admission_duration_seconds_count{{{},rejected=\"true\",type=\"admit\"}} 3", of_webhook("")),
            format!("apiserver_admission_webhook_request_total{{{},rejected=\"true\",type=\"admit\"}} 1", of_webhook("code=\"600\",")),
            format!("apiserver_admission_webhook_request_total{{{},rejected=\"false\",type=\"admit\"}} 1", of_webhook("code=\"200\",")),
            format!("apiserver_admission_webhook_rejection_count{{{},rejection_code=\"600\",type=\"admit\"}} 1", of_webhook("error_type=\"no_error\",")),
            format!("apiserver_admission_webhook_rejection_count{{{},rejection_code=\"503\",type=\"admit\"}} 1", of_webhook("error_type=\"calling_webhook_error\",")),
            format!("apiserver_admission_webhook_rejection_count{{{},rejection_code=\"0\",type=\"admit\"}} 1", of_webhook("error_type=\"apiserver_internal_error\",")),
            "apiserver_admission_webhook_fail_open_count{name=\"w\",type=\"admit\"} 1".to_owned(),
            "apiserver_validating_admission_policy_check_total{enforcement_action=\"deny\",error_type=\"no_error\",policy=\"p\",policy_binding=\"b\"} 1".to_owned(),
            "apiserver_validating_admission_policy_check_duration_seconds_count{enforcement_action=\"deny\",error_type=\"no_error\",policy=\"p\",policy_binding=\"b\"} 1".to_owned(),
            "apiserver_mutating_admission_policy_check_total{error_type=\"compile_error\",policy=\"p\",policy_binding=\"b\"} 1".to_owned(),
        ] {
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }
}
