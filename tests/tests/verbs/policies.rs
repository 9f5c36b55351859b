//! Admission policies in CEL, as the documentation shows them: parameters, actions, authorizer, variables, messages,
//! and mutations of both forms.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, Options, eventually, must, with_every_kubectl};

use crate::in_order;

/// Where the policies of these tests hold.
const NAMESPACES: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: checked, labels: {environment: test, team: blue}}
---
apiVersion: v1
kind: Namespace
metadata: {name: free, labels: {environment: other}}
"#;

const REPLICA_LIMITS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: replicalimits.rules.example.com}
spec:
  group: rules.example.com
  scope: Namespaced
  names: {plural: replicalimits, singular: replicalimit, kind: ReplicaLimit}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema: {type: object, properties: {maxReplicas: {type: integer}}}
"#;

const LIMIT: &str = r#"
apiVersion: rules.example.com/v1
kind: ReplicaLimit
metadata: {name: replica-limit-test.example.com, namespace: default}
maxReplicas: 3
"#;

const REPLICA_LIMIT_POLICY: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: replicalimit-policy.example.com}
spec:
  failurePolicy: Fail
  paramKind: {apiVersion: rules.example.com/v1, kind: ReplicaLimit}
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}
  matchConditions:
  - {name: not-the-system, expression: "!request.userInfo.username.startsWith('system:kube-')"}
  variables:
  - {name: replicas, expression: "has(object.spec.replicas) ? object.spec.replicas : 1"}
  - {name: most, expression: params.maxReplicas}
  validations:
  - expression: variables.replicas <= variables.most
    messageExpression: "'object.spec.replicas must be no greater than ' + string(variables.most)"
    reason: Invalid
  - expression: "!has(object.metadata.labels) || !('env' in object.metadata.labels) || object.metadata.labels['env'] == namespaceObject.metadata.labels.environment"
    message: the label env must be the namespace's
    reason: Forbidden
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: replicalimit-binding-test.example.com}
spec:
  policyName: replicalimit-policy.example.com
  validationActions: [Deny]
  paramRef: {name: replica-limit-test.example.com, namespace: default, parameterNotFoundAction: Deny}
  matchResources: {namespaceSelector: {matchLabels: {environment: test}}}
"#;

fn deploy(cluster: &Cluster, replicas: u32, label: &str) -> Result<tests::Answer> {
    let manifest = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "checked", "labels": {"env": label}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}}});
    cluster.kubectl_input(&["apply", "--dry-run=server", "-f", "-"], &manifest.to_string())
}

/// What a server says of a refused request once a policy is in force.
fn refusal(what: &str, mut attempt: impl FnMut() -> Result<tests::Answer>) -> String {
    eventually(what, || {
        let answer = attempt()?;
        ensure!(!answer.success, "it is let through");
        Ok(answer.stderr)
    })
}

#[test]
fn a_replica_limit_comes_from_a_custom_resource() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        cluster.apply(NAMESPACES)?;
        cluster.apply(REPLICA_LIMITS)?;
        cluster.kubectl(&["wait", "--for=condition=Established", "crd/replicalimits.rules.example.com"])?.ok();
        cluster.apply(REPLICA_LIMIT_POLICY)?;
        let told = refusal("without its parameter a policy refuses", || deploy(cluster, 1, "test"));
        in_order(
            &told,
            &[
                "ValidatingAdmissionPolicy 'replicalimit-policy.example.com' with binding 'replicalimit-binding-test.example.com' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction",
            ],
        );
        cluster.apply(LIMIT)?;
        eventually("a deployment within the limit is let through", || {
            let answer = deploy(cluster, 3, "test")?;
            ensure!(answer.success, "{}", answer.stderr);
            Ok(())
        });
        let told = deploy(cluster, 5, "test")?.error();
        in_order(
            &told,
            &[
                "deployments",
                "web",
                "is invalid",
                "ValidatingAdmissionPolicy 'replicalimit-policy.example.com' with binding 'replicalimit-binding-test.example.com' denied request: object.spec.replicas must be no greater than 3",
            ],
        );
        let told = deploy(cluster, 1, "production")?.error();
        in_order(
            &told,
            &[
                "(Forbidden)",
                "deployments.apps \"web\" is forbidden:",
                "denied request: the label env must be the namespace's",
            ],
        );
        // The parameter is followed, and other namespaces are not concerned.
        cluster
            .kubectl(&[
                "patch",
                "replicalimit",
                "replica-limit-test.example.com",
                "--type=merge",
                "-p",
                r#"{"maxReplicas": 7}"#,
            ])?
            .ok();
        eventually("a raised limit holds", || {
            let answer = deploy(cluster, 5, "test")?;
            ensure!(answer.success, "{}", answer.stderr);
            Ok(())
        });
        cluster
            .kubectl(&[
                "create",
                "deployment",
                "many",
                "--image=nginx",
                "--replicas=50",
                "-n",
                "free",
                "--dry-run=server",
            ])?
            .ok();
        let checked = eventually("the policy was checked", || {
            let policy = cluster.object(&["validatingadmissionpolicy", "replicalimit-policy.example.com"])?;
            ensure!(policy["status"]["observedGeneration"] == policy["metadata"]["generation"], "{}", policy["status"]);
            Ok(policy["status"].clone())
        });
        assert_eq!(checked["typeChecking"], json!({}));

        cluster.kubectl(&["delete", "validatingadmissionpolicybinding", "replicalimit-binding-test.example.com"])?.ok();
        eventually("without a binding a policy is not in force", || {
            let answer = deploy(cluster, 50, "test")?;
            ensure!(answer.success, "{}", answer.stderr);
            Ok(())
        });
        Ok(())
    }));
}

const ACTIONS: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: actions.example.com}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE, DELETE], resources: [configmaps]}
  validations:
  - {expression: "request.operation == 'DELETE' || object.data.level != 'high'", message: the level is high}
  auditAnnotations:
  - {key: level, valueExpression: "request.operation == 'DELETE' ? '' : 'level is ' + object.data.level"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: told.example.com}
spec:
  policyName: actions.example.com
  validationActions: [Warn, Audit]
  matchResources: {namespaceSelector: {matchLabels: {environment: test}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: owners.example.com}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [DELETE], resources: [configmaps]}
  validations:
  - expression: "oldObject.metadata.name != 'kept' || authorizer.group('').resource('configmaps').namespace(request.namespace).name('kept').check('own').allowed()"
    messageExpression: "request.userInfo.username + ' does not own ' + oldObject.metadata.name"
    reason: Forbidden
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: owners.example.com}
spec:
  policyName: owners.example.com
  validationActions: [Deny]
  matchResources: {namespaceSelector: {matchLabels: {environment: test}}}
"#;

const AUDIT: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, resources: [{group: "", resources: [configmaps]}]}
- {level: None}
"#;

#[test]
fn refusals_are_warned_of_audited_or_asked_of_the_authorizer() {
    let directory = tempfile::tempdir().expect("a directory");
    let (policy, log) = (directory.path().join("policy.yaml"), directory.path().join("audit.log"));
    fs::write(&policy, AUDIT).expect("the audit policy");
    let argument = |name: &str, path: &std::path::Path| format!("--{name}={}", path.display());
    let arguments = vec![argument("audit-policy-file", &policy), argument("audit-log-path", &log)];
    must(Cluster::start(Options { arguments, ..Options::default() }).and_then(|cluster| {
        cluster.apply(NAMESPACES)?;
        cluster.apply(ACTIONS)?;
        let level = |level: &str| {
            cluster.kubectl(&["create", "configmap", "kept", &format!("--from-literal=level={level}"), "-n", "checked"])
        };
        let told = eventually("a refusal is a warning", || {
            let answer = level("high")?;
            ensure!(answer.success, "{}", answer.stderr);
            let told = answer.stderr;
            if told.is_empty() {
                cluster.kubectl(&["delete", "configmap", "kept", "-n", "checked"])?.ok();
            }
            ensure!(!told.is_empty(), "nothing is told");
            Ok(told)
        });
        assert_eq!(
            told,
            "Warning: Validation failed for ValidatingAdmissionPolicy 'actions.example.com' with binding 'told.example.com': the level is high\n"
        );
        let annotations = eventually("and in the audit log", || {
            let text = fs::read_to_string(&log)?;
            let events = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
            let of = |event: &Value| event["annotations"].clone();
            let failed = |annotations: &Value| annotations.get("validation.policy.admission.k8s.io/validation_failure").is_some();
            events.iter().map(of).find(failed).context("no such event")
        });
        assert_eq!(annotations["actions.example.com/level"], "level is high");
        let failure: Value = serde_json::from_str(
            annotations["validation.policy.admission.k8s.io/validation_failure"].as_str().context("a text")?,
        )?;
        assert_eq!(
            failure,
            json!([{"message": "the level is high", "policy": "actions.example.com", "binding": "told.example.com",
                "expressionIndex": 0, "validationActions": ["Warn", "Audit"]}])
        );

        // Whoever may do it may, whatever verb it is called.
        for command in [
            "create role keepers --verb=get,delete --resource=configmaps -n checked",
            "create rolebinding keepers --role=keepers --user=jane -n checked",
            "create role owners --verb=own --resource=configmaps --resource-name=kept -n checked",
        ] {
            cluster.kubectl(&command.split(' ').collect::<Vec<_>>())?.ok();
        }
        let delete = || cluster.kubectl(&["delete", "configmap", "kept", "-n", "checked", "--as=jane", "--dry-run=server"]);
        let told = eventually("jane does not own it", || {
            let answer = delete()?;
            ensure!(answer.stderr.contains("does not own"), "{} {}", answer.stdout, answer.stderr);
            Ok(answer.stderr)
        });
        assert_eq!(
            told,
            "Error from server (Forbidden): configmaps \"kept\" is forbidden: ValidatingAdmissionPolicy 'owners.example.com' with binding 'owners.example.com' denied request: jane does not own kept\n"
        );
        cluster.kubectl(&["create", "rolebinding", "owners", "--role=owners", "--user=jane", "-n", "checked"])?.ok();
        eventually("jane owns it", || {
            let answer = delete()?;
            ensure!(answer.success, "{}", answer.stderr);
            Ok(())
        });
        cluster.finish()
    }));
}

const MUTATIONS: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: sidecar-policy.example.com}
spec:
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  matchConditions:
  - name: does-not-already-have-sidecar
    expression: "!has(object.spec.initContainers) || !object.spec.initContainers.exists(ic, ic.name == 'mesh-proxy')"
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >
        Object{
          spec: Object.spec{
            initContainers: [
              Object.spec.initContainers{
                name: "mesh-proxy",
                image: params.data.image,
                restartPolicy: "Always"
              }
            ]
          }
        }
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: sidecar-binding.example.com}
spec:
  policyName: sidecar-policy.example.com
  paramRef: {selector: {matchLabels: {mesh: "yes"}}, parameterNotFoundAction: Allow}
  matchResources: {namespaceSelector: {matchLabels: {environment: test}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: team.example.com}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  failurePolicy: Fail
  reinvocationPolicy: Never
  variables:
  - {name: team, expression: namespaceObject.metadata.labels.team}
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: >
        has(object.metadata.labels) ? [] : [JSONPatch{op: "add", path: "/metadata/labels", value: {}}]
  - patchType: JSONPatch
    jsonPatch:
      expression: >
        [JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("example.com/team"), value: variables.team},
         JSONPatch{op: "add", path: "/spec/tolerations/-", value: Object.spec.tolerations{key: "team", operator: "Exists"}}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: team-binding.example.com}
spec:
  policyName: team.example.com
  matchResources: {namespaceSelector: {matchLabels: {environment: test}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: mesh, namespace: checked, labels: {mesh: "yes"}}
data: {image: "mesh/proxy:v1.0.0"}
"#;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: app, namespace: checked}
spec: {nodeName: none, containers: [{name: app, image: nginx}]}
"#;

#[test]
fn pods_are_changed_by_configurations_and_patches() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        cluster.apply(NAMESPACES)?;
        cluster.apply(MUTATIONS)?;
        let pod = eventually("a pod has its sidecar and its label", || {
            let answer = cluster.kubectl_input(&["create", "--dry-run=server", "-o", "json", "-f", "-"], POD)?;
            ensure!(answer.success, "{}", answer.stderr);
            let pod: Value = serde_json::from_str(&answer.stdout)?;
            ensure!(pod["spec"]["initContainers"].is_array() && pod["metadata"]["labels"].is_object(), "{pod}");
            Ok(pod)
        });
        let sidecar = &pod["spec"]["initContainers"][0];
        assert_eq!((&sidecar["name"], &sidecar["image"]), (&json!("mesh-proxy"), &json!("mesh/proxy:v1.0.0")));
        // Decoded and defaulted as if the client had sent it.
        assert_eq!(
            (&sidecar["restartPolicy"], &sidecar["imagePullPolicy"]),
            (&json!("Always"), &json!("IfNotPresent"))
        );
        assert_eq!(pod["spec"]["initContainers"].as_array().map(Vec::len), Some(1));
        assert_eq!(pod["metadata"]["labels"], json!({"example.com/team": "blue"}));
        let tolerations = pod["spec"]["tolerations"].as_array().context("tolerations")?;
        assert!(tolerations.iter().any(|toleration| toleration["key"] == "team"), "{tolerations:?}");

        // What goes wrong is told, and says which policy it was.
        cluster
            .kubectl(&[
                "patch",
                "configmap",
                "mesh",
                "-n",
                "checked",
                "--type=json",
                "-p",
                r#"[{"op": "remove", "path": "/data/image"}]"#,
            ])?
            .ok();
        let told = refusal("a mutation that fails is a refusal", || {
            cluster.kubectl_input(&["create", "--dry-run=server", "-f", "-"], POD)
        });
        in_order(
            &told,
            &[
                "policy 'sidecar-policy.example.com' with binding 'sidecar-binding.example.com' denied request: expression '",
                "resulted in error: no such key: ",
            ],
        );
        Ok(())
    }));
}

/// What is wrong with it, and where the server says so.
#[test]
fn expressions_are_checked_when_they_are_written() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        let policy = |expression: &str| {
            json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
                "metadata": {"name": "checked.example.com"}, "spec": {
                    "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
                        "operations": ["CREATE"], "resources": ["deployments"]}]},
                    "validations": [{"expression": expression}]}})
            .to_string()
        };
        let told = cluster.kubectl_input(&["create", "-f", "-"], &policy("object.spec.replicas +"))?.error();
        in_order(
            &told,
            &[
                "ValidatingAdmissionPolicy",
                "checked.example.com",
                "spec.validations[0].expression: Invalid value: ",
                "compilation failed: ERROR: <input>:1:",
            ],
        );
        let told = cluster.kubectl_input(&["create", "-f", "-"], &policy("1"))?.error();
        in_order(&told, &["spec.validations[0].expression: Invalid value: \"1\": must evaluate to bool but got int"]);
        cluster.kubectl_input(&["create", "-f", "-"], &policy("object.replicas > 1"))?.ok();
        let warning = eventually("the type is checked", || {
            let policy = cluster.object(&["validatingadmissionpolicy", "checked.example.com"])?;
            let warnings = &policy["status"]["typeChecking"]["expressionWarnings"];
            ensure!(warnings.is_array(), "{}", policy["status"]);
            Ok(warnings[0].clone())
        });
        assert_eq!(warning["fieldRef"], "spec.validations[0].expression");
        in_order(
            warning["warning"].as_str().unwrap_or_default(),
            &["apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'"],
        );
        Ok(())
    }));
}
