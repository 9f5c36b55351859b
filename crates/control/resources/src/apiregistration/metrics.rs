//! What aggregation tells `/metrics`, under upstream's names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::availability::Verdict;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NameLabels {
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    name: String,
    reason: &'static str,
}

/// Cheap to clone; clones are the same metrics.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    unavailable: Family<NameLabels, Gauge>,
    turned: Family<ReasonLabels, Counter>,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "1 for each APIService that is not available";
        registry.register("aggregator_unavailable_apiservice", help, self.unavailable.clone());
        // Of the same name but for what OpenMetrics adds to counters.
        let help = "How often APIServices have turned unavailable, and why";
        registry.register("aggregator_unavailable_apiservice", help, self.turned.clone());
    }

    /// `was`: whether it was available before.
    pub(super) fn judged(&self, name: &str, was: bool, verdict: &Verdict) {
        let labels = NameLabels { name: name.to_owned() };
        self.unavailable.get_or_create(&labels).set(i64::from(!verdict.available));
        if was && !verdict.available {
            let labels = ReasonLabels { name: name.to_owned(), reason: verdict.reason };
            self.turned.get_or_create(&labels).inc();
        }
    }

    pub(super) fn gone(&self, name: &str) {
        self.unavailable.remove(&NameLabels { name: name.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_upstreams() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        metrics.judged("v1.a", true, &Verdict::failed("x".into()));
        metrics.judged("v1.a", false, &Verdict::failed("x".into()));
        metrics.judged("v1.b", false, &Verdict::passed());
        metrics.judged("v1.c", false, &Verdict::passed());
        metrics.gone("v1.c");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        for line in [
            "aggregator_unavailable_apiservice{name=\"v1.a\"} 1\n",
            "aggregator_unavailable_apiservice{name=\"v1.b\"} 0\n",
            "aggregator_unavailable_apiservice_total{name=\"v1.a\",reason=\"FailedDiscoveryCheck\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("v1.c"), "{text}");
    }
}
