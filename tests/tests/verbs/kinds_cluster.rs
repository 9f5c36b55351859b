//! Networks, storage, priorities, devices, admission and API services: what of them is stored, shown and refused, and
//! what every cluster has of them from its start.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::{Cluster, Options, must};

use crate::in_order;

struct Kind {
    /// As kubectl is asked for it.
    resource: &'static str,
    version: &'static str,
    kind: &'static str,
    name: &'static str,
    rest: Value,
    /// Headings and cells of `kubectl get`, but for the age.
    shown: &'static [&'static str],
    /// What is said of one that has a name alone; empty where that is enough.
    refused: &'static [&'static str],
}

fn kinds() -> Vec<Kind> {
    let rule =
        json!({"operations": ["CREATE"], "apiGroups": ["none.example"], "apiVersions": ["v1"], "resources": ["x"]});
    let hooks = json!([{"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"], "rules": [rule],
        "clientConfig": {"url": "https://a.example"}}]);
    let claim = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}});
    let kind = |resource, version, kind, rest, shown, refused| Kind {
        resource,
        version,
        kind,
        name: "a",
        rest,
        shown,
        refused,
    };
    vec![
        kind(
            "ing",
            "networking.k8s.io/v1",
            "Ingress",
            json!({"spec": {"rules": [{"host": "a.example", "http": {"paths": [{"path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}}),
            &["NAME", "CLASS", "HOSTS", "ADDRESS", "PORTS", "AGE", "a", "<none>", "a.example", "80"],
            &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
        ),
        kind(
            "ingressclass",
            "networking.k8s.io/v1",
            "IngressClass",
            json!({"spec": {"controller": "a.example/c"}}),
            &["NAME", "CONTROLLER", "PARAMETERS", "AGE", "a", "a.example/c", "<none>"],
            &["spec.controller: Required value"],
        ),
        kind(
            "netpol",
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"spec": {"podSelector": {"matchLabels": {"app": "none"}}}}),
            &["NAME", "POD-SELECTOR", "AGE", "a", "app=none"],
            &[],
        ),
        Kind {
            name: "10.43.9.9",
            ..kind(
                "ip",
                "networking.k8s.io/v1",
                "IPAddress",
                json!({"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "x"}}}),
                &["NAME", "PARENTREF", "AGE", "10.43.9.9", "services/default/x"],
                &["spec.parentRef: Required value"],
            )
        },
        kind(
            "sc",
            "storage.k8s.io/v1",
            "StorageClass",
            json!({"provisioner": "a.example/b"}),
            &[
                "PROVISIONER",
                "RECLAIMPOLICY",
                "VOLUMEBINDINGMODE",
                "ALLOWVOLUMEEXPANSION",
                "a.example/b",
                "Delete",
                "false",
            ],
            &["provisioner: Required value"],
        ),
        kind(
            "csidriver",
            "storage.k8s.io/v1",
            "CSIDriver",
            json!({"spec": {}}),
            &["ATTACHREQUIRED", "TOKENREQUESTS", "MODES", "true", "<unset>", "Persistent"],
            &[],
        ),
        kind(
            "vac",
            "storage.k8s.io/v1",
            "VolumeAttributesClass",
            json!({"driverName": "a.example", "parameters": {"a": "b"}}),
            &["NAME", "DRIVERNAME", "AGE", "a.example"],
            &["* driverName: Required value", "* parameters: Required value: must contain at least one key/value pair"],
        ),
        kind(
            "pc",
            "scheduling.k8s.io/v1",
            "PriorityClass",
            json!({"value": 10}),
            &["VALUE", "GLOBAL-DEFAULT", "AGE", "PREEMPTIONPOLICY", "10", "false", "PreemptLowerPriority"],
            &[],
        ),
        kind(
            "runtimeclass",
            "node.k8s.io/v1",
            "RuntimeClass",
            json!({"handler": "runsc"}),
            &["NAME", "HANDLER", "AGE", "runsc"],
            &["handler: Invalid value: \"\": a lowercase RFC 1123 label"],
        ),
        kind(
            "flowschema",
            "flowcontrol.apiserver.k8s.io/v1",
            "FlowSchema",
            json!({"spec": {"priorityLevelConfiguration": {"name": "exempt"}}}),
            &[
                "PRIORITYLEVEL",
                "MATCHINGPRECEDENCE",
                "DISTINGUISHERMETHOD",
                "AGE",
                "MISSINGPL",
                "exempt",
                "1000",
                "<none>",
            ],
            &["spec.priorityLevelConfiguration.name: Required value: must reference a priority level"],
        ),
        kind(
            "resourceclaim",
            "resource.k8s.io/v1",
            "ResourceClaim",
            json!({"spec": claim}),
            &["NAME", "STATE", "AGE", "pending"],
            &[],
        ),
        kind(
            "resourceslice",
            "resource.k8s.io/v1",
            "ResourceSlice",
            json!({"spec": {"driver": "a.example", "nodeName": "n",
                "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}}}),
            &["NODE", "DRIVER", "POOL", "AGE", "n", "a.example", "p"],
            &[
                "* spec.driver: Required value",
                "* spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
            ],
        ),
        kind(
            "validatingwebhookconfiguration",
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            json!({"webhooks": hooks}),
            &["NAME", "WEBHOOKS", "AGE", "1"],
            &[],
        ),
        kind(
            "validatingadmissionpolicy",
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicy",
            json!({"spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "true"}]}}),
            &["VALIDATIONS", "PARAMKIND", "AGE", "1", "<unset>"],
            &["* spec.matchConstraints: Required value", "* spec.auditAnnotations: Required value: validations or"],
        ),
        kind(
            "validatingadmissionpolicybinding",
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicyBinding",
            json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}}),
            &["POLICYNAME", "PARAMREF", "AGE", "p", "<unset>"],
            &["* spec.policyName: Required value", "* spec.validationActions: Required value: at least one validation"],
        ),
        Kind {
            name: "v1.a.example",
            ..kind(
                "apiservice",
                "apiregistration.k8s.io/v1",
                "APIService",
                json!({"spec": {"group": "a.example", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
                    "service": {"namespace": "n", "name": "s"}, "insecureSkipTLSVerify": true}}),
                &["NAME", "SERVICE", "AVAILABLE", "AGE", "v1.a.example", "n/s"],
                &[
                    "* spec.group: Required value: only v1 may have an empty group",
                    "* spec.versionPriority: Invalid value: 0",
                ],
            )
        },
    ]
}

/// kubectl 1.32 describes these by their beta versions, which are not served.
const UNDESCRIBED: &[&str] = &["ip", "vac"];

#[test]
fn kinds_of_the_cluster_are_stored_shown_and_refused() {
    must(run());
}

fn run() -> Result<()> {
    let cluster = Cluster::start(Options::default())?;
    for kind in kinds() {
        let mut object = json!({"apiVersion": kind.version, "kind": kind.kind, "metadata": {"name": kind.name}});
        let bare = object.to_string();
        object.as_object_mut().context("an object")?.extend(kind.rest.as_object().context("an object")?.clone());
        cluster.kubectl_input(&["create", "-f", "-"], &object.to_string())?.ok();
        in_order(&cluster.kubectl(&["get", kind.resource, kind.name])?.ok(), kind.shown);
        if !UNDESCRIBED.contains(&kind.resource) {
            in_order(&cluster.kubectl(&["describe", kind.resource, kind.name])?.ok(), &["Name:", kind.name]);
        }
        cluster.kubectl(&["delete", kind.resource, kind.name])?.ok();
        if !kind.refused.is_empty() {
            in_order(&cluster.kubectl_input(&["create", "-f", "-"], &bare)?.error(), kind.refused);
        }
    }
    from_the_start(&cluster)?;
    cluster.finish()
}

/// What every cluster has, and what of it cannot be changed.
fn from_the_start(cluster: &Cluster) -> Result<()> {
    let get = |resource: &str| Ok::<_, anyhow::Error>(cluster.kubectl(&["get", resource])?.ok());
    in_order(&get("prioritylevelconfigurations")?, &["catch-all", "exempt", "Exempt", "<none>", "workload-low", "100"]);
    in_order(&get("flowschemas")?, &["catch-all", "10000", "ByUser", "False", "workload-leader-election"]);
    in_order(
        &get("priorityclasses")?,
        &["system-cluster-critical", "2000000000", "system-node-critical", "2000001000"],
    );
    in_order(&get("servicecidrs")?, &["NAME", "CIDRS", "AGE", "kubernetes", "/"]);
    in_order(&get("apiservices")?, &["v1.", "Local", "True", "v1.apps", "v1.authorization.k8s.io", "v2.autoscaling"]);
    let more = r#"{"spec": {"limited": {"nominalConcurrencyShares": 9}}}"#;
    let patch = ["patch", "prioritylevelconfiguration", "catch-all", "--type", "merge", "-p", more];
    in_order(
        &cluster.kubectl(&patch)?.error(),
        &["spec: Invalid value", "spec of 'catch-all' must equal the fixed value"],
    );
    Ok(())
}
