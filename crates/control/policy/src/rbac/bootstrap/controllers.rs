//! Upstream's roles of controllers (v1.36): `system:controller:<name>`, each bound to the service account of that name
//! in `kube-system`.

use super::roles::{EVENTS, READ};
use super::table::Rule;
use super::table::Rule::{Of, On};

const WATCH: &str = "list watch";
const WORK: &str = "create delete list patch watch";

pub(super) const CONTROLLERS: &[(&str, &[Rule])] = &[
    (
        "attachdetach-controller",
        &[
            On(WATCH, "core", "persistentvolumeclaims persistentvolumes"),
            On(READ, "core", "nodes"),
            On("patch update", "core", "nodes/status"),
            On(WATCH, "core", "pods"),
            EVENTS,
            On("create delete get list watch", "storage.k8s.io", "volumeattachments"),
            On(READ, "storage.k8s.io", "csidrivers"),
            On(READ, "storage.k8s.io", "csinodes"),
        ],
    ),
    (
        "clusterrole-aggregation-controller",
        &[On("escalate get list patch update watch", "rbac.authorization.k8s.io", "clusterroles")],
    ),
    (
        "cronjob-controller",
        &[
            On("get list update watch", "batch", "cronjobs"),
            On("create delete get list patch update watch", "batch", "jobs"),
            On("update", "batch", "cronjobs/status"),
            On("update", "batch", "cronjobs/finalizers"),
            On("delete list watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "daemon-set-controller",
        &[
            On(READ, "apps extensions", "daemonsets"),
            On("update", "apps extensions", "daemonsets/status"),
            On("update", "apps extensions", "daemonsets/finalizers"),
            On(WATCH, "core", "nodes"),
            On(WORK, "core", "pods"),
            On("create", "core", "pods/binding"),
            On("create delete get list patch update watch", "apps", "controllerrevisions"),
            EVENTS,
        ],
    ),
    (
        "deployment-controller",
        &[
            On("get list update watch", "apps extensions", "deployments"),
            On("update", "apps extensions", "deployments/status"),
            On("update", "apps extensions", "deployments/finalizers"),
            On("create delete get list patch update watch", "apps extensions", "replicasets"),
            On("get list update watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "device-taint-eviction-controller",
        &[
            On("delete get list watch", "core", "pods"),
            On("patch update", "core", "pods/status"),
            On(READ, "resource.k8s.io", "resourceclaims"),
            On(READ, "resource.k8s.io", "resourceslices"),
            On(READ, "resource.k8s.io", "deviceclasses"),
            EVENTS,
        ],
    ),
    (
        "disruption-controller",
        &[
            On(READ, "apps extensions", "deployments"),
            On(READ, "apps extensions", "replicasets"),
            On(READ, "core", "replicationcontrollers"),
            On(READ, "policy", "poddisruptionbudgets"),
            On(READ, "apps", "statefulsets"),
            On("update", "policy", "poddisruptionbudgets/status"),
            On("patch update", "core", "pods/status"),
            On("get", "*", "*/scale"),
            EVENTS,
        ],
    ),
    (
        "endpoint-controller",
        &[
            On(READ, "core", "pods services"),
            On("create delete get list update watch", "core", "endpoints"),
            On("create", "core", "endpoints/restricted"),
            EVENTS,
        ],
    ),
    (
        "endpointslice-controller",
        &[
            On(READ, "core", "nodes pods services"),
            On("update", "core", "services/finalizers"),
            On("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
            EVENTS,
        ],
    ),
    (
        "endpointslicemirroring-controller",
        &[
            On(READ, "core", "endpoints services"),
            On("update", "core", "services/finalizers"),
            On("update", "core", "endpoints/finalizers"),
            On("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
            EVENTS,
        ],
    ),
    (
        "expand-controller",
        &[
            On("get list patch update watch", "core", "persistentvolumes"),
            On("patch update", "core", "persistentvolumeclaims/status"),
            On(READ, "core", "persistentvolumeclaims"),
            EVENTS,
        ],
    ),
    (
        "ephemeral-volume-controller",
        &[
            On(READ, "core", "pods"),
            On("update", "core", "pods/finalizers"),
            On("create get list watch", "core", "persistentvolumeclaims"),
            EVENTS,
        ],
    ),
    (
        "resource-claim-controller",
        &[
            On(READ, "core", "pods"),
            On("update", "core", "pods/finalizers"),
            On("create delete get list watch", "resource.k8s.io", "resourceclaims"),
            On("patch update", "resource.k8s.io", "resourceclaims resourceclaims/status"),
            On("patch update", "core", "pods/status"),
            EVENTS,
            On("patch update", "resource.k8s.io", "resourceclaims/binding"),
        ],
    ),
    ("generic-garbage-collector", &[On("delete get list patch update watch", "*", "*"), EVENTS]),
    (
        "horizontal-pod-autoscaler",
        &[
            On(READ, "autoscaling", "horizontalpodautoscalers"),
            On("update", "autoscaling", "horizontalpodautoscalers/status"),
            On("get update", "*", "*/scale"),
            On(WATCH, "core", "pods"),
            On(WATCH, "metrics.k8s.io", "pods"),
            On(READ, "custom.metrics.k8s.io", "*"),
            On(READ, "external.metrics.k8s.io", "*"),
            EVENTS,
        ],
    ),
    (
        "job-controller",
        &[
            On("get list patch update watch", "batch", "jobs"),
            On("update", "batch", "jobs/status"),
            On("update", "batch", "jobs/finalizers"),
            On(WORK, "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "namespace-controller",
        &[
            On("delete get list watch", "core", "namespaces"),
            On("update", "core", "namespaces/finalize namespaces/status"),
            On("delete deletecollection get list watch", "*", "*"),
        ],
    ),
    (
        "node-controller",
        &[
            On("delete get list patch update watch", "core", "nodes"),
            On("patch update", "core", "nodes/status"),
            On("patch update", "core", "pods/status"),
            On("delete get list watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "persistent-volume-binder",
        &[
            On("create delete get list update watch", "core", "persistentvolumes"),
            On("update", "core", "persistentvolumes/status"),
            On("get list update watch", "core", "persistentvolumeclaims"),
            On("update", "core", "persistentvolumeclaims/status"),
            On("create delete get list watch", "core", "pods"),
            On(READ, "storage.k8s.io", "storageclasses"),
            On(WATCH, "core", "nodes"),
            EVENTS,
            On("watch", "core", "events"),
        ],
    ),
    (
        "pod-garbage-collector",
        &[On("delete list watch", "core", "pods"), On(READ, "core", "nodes"), On("patch", "core", "pods/status")],
    ),
    (
        "replicaset-controller",
        &[
            On("get list update watch", "apps extensions", "replicasets"),
            On("update", "apps extensions", "replicasets/status"),
            On("update", "apps extensions", "replicasets/finalizers"),
            On(WORK, "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "replication-controller",
        &[
            On("get list update watch", "core", "replicationcontrollers"),
            On("update", "core", "replicationcontrollers/status"),
            On("update", "core", "replicationcontrollers/finalizers"),
            On(WORK, "core", "pods"),
            EVENTS,
        ],
    ),
    ("resourcequota-controller", &[On(WATCH, "*", "*"), On("update", "core", "resourcequotas/status"), EVENTS]),
    ("route-controller", &[On(WATCH, "core", "nodes"), On("patch", "core", "nodes/status"), EVENTS]),
    ("service-account-controller", &[On("create", "core", "serviceaccounts"), EVENTS]),
    (
        "service-controller",
        &[
            On(READ, "core", "services"),
            On("patch update", "core", "services/status"),
            On(WATCH, "core", "nodes"),
            EVENTS,
        ],
    ),
    (
        "service-cidrs-controller",
        &[
            On("get list patch update watch", "networking.k8s.io", "servicecidrs"),
            On("patch update", "networking.k8s.io", "servicecidrs/finalizers"),
            On("patch update", "networking.k8s.io", "servicecidrs/status"),
            On(READ, "networking.k8s.io", "ipaddresses"),
            EVENTS,
        ],
    ),
    (
        "statefulset-controller",
        &[
            On(WATCH, "core", "pods"),
            On(READ, "apps", "statefulsets"),
            On("update", "apps", "statefulsets/status"),
            On("update", "apps", "statefulsets/finalizers"),
            On("create delete get patch update", "core", "pods"),
            On("create delete get list patch update watch", "apps", "controllerrevisions"),
            On("create get list watch", "core", "persistentvolumeclaims"),
            On("delete update", "core", "persistentvolumeclaims"),
            On("update", "core", "pods/finalizers"),
            EVENTS,
        ],
    ),
    ("ttl-controller", &[On("list patch update watch", "core", "nodes"), EVENTS]),
    (
        "certificate-controller",
        &[
            On("delete get list watch", "certificates.k8s.io", "certificatesigningrequests"),
            On(
                "update",
                "certificates.k8s.io",
                "certificatesigningrequests/approval certificatesigningrequests/status",
            ),
            Of("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
            Of(
                "sign",
                "certificates.k8s.io",
                "signers",
                "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet \
                 kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown",
            ),
            On("create", "authorization.k8s.io", "subjectaccessreviews"),
            EVENTS,
        ],
    ),
    (
        "pvc-protection-controller",
        &[
            On("get list update watch", "core", "persistentvolumeclaims"),
            On("update", "core", "persistentvolumeclaims/status"),
            On(READ, "core", "pods"),
            EVENTS,
        ],
    ),
    ("pv-protection-controller", &[On("get list update watch", "core", "persistentvolumes"), EVENTS]),
    (
        "volumeattributesclass-protection-controller",
        &[
            On(READ, "core", "persistentvolumeclaims"),
            On(READ, "core", "persistentvolumes"),
            On("get list update watch", "storage.k8s.io", "volumeattributesclasses"),
            EVENTS,
        ],
    ),
    ("ttl-after-finished-controller", &[On("delete get list watch", "batch", "jobs"), EVENTS]),
    ("root-ca-cert-publisher", &[On("create update", "core", "configmaps"), EVENTS]),
    (
        "validatingadmissionpolicy-status-controller",
        &[
            On(READ, "admissionregistration.k8s.io", "validatingadmissionpolicies"),
            On("get patch update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status"),
            EVENTS,
        ],
    ),
    (
        "legacy-service-account-token-cleaner",
        &[
            Of("get", "core", "configmaps", "kube-apiserver-legacy-service-account-token-tracking"),
            On("delete patch", "core", "secrets"),
        ],
    ),
    (
        "selinux-warning-controller",
        &[
            EVENTS,
            On(READ, "core", "persistentvolumes"),
            On(READ, "core", "persistentvolumeclaims"),
            On(READ, "core", "pods"),
            On(READ, "storage.k8s.io", "csidrivers"),
        ],
    ),
];
