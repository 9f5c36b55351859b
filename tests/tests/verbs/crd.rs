//! Kinds that CustomResourceDefinitions make: served at once, pruned, defaulted, validated, shown, and gone with them.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;
use tests::{Cluster, Options, eventually, must, with_every_kubectl};

use crate::{headings, in_order};

/// Upstream's example, with what else a definition can say.
const CRON_TABS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.labelSelector}
    selectableFields: [{jsonPath: .spec.image}]
    additionalPrinterColumns:
    - {name: Spec, type: string, description: The cron spec, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        description: Runs things now and then.
        properties:
          spec:
            type: object
            description: What to run.
            required: [cronSpec]
            x-kubernetes-validations:
            - {rule: "self.replicas <= self.most", message: replicas may not exceed most}
            - {rule: "!has(oldSelf.image) || self.image == oldSelf.image", message: image is immutable}
            properties:
              cronSpec: {type: string, description: When., pattern: '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$'}
              image: {type: string, maxLength: 50}
              replicas: {type: integer, minimum: 1, maximum: 10, default: 1}
              most: {type: integer, default: 5}
              port: {x-kubernetes-int-or-string: true}
              free: {type: object, x-kubernetes-preserve-unknown-fields: true}
              steps:
                type: array
                maxItems: 5
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items: {type: object, required: [name], properties: {name: {type: string}, run: {type: string, default: "true"}}}
          status:
            type: object
            properties: {replicas: {type: integer}, labelSelector: {type: string}}
  - name: v1beta1
    served: true
    storage: false
    deprecated: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"#;

const MINE: &str = r#"
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: mine}
spec: {cronSpec: "* * * * */5", image: my-image, port: 80, free: {any: {thing: 1}}, steps: [{name: one}]}
"#;

fn defined(cluster: &Cluster) -> Result<()> {
    cluster.apply(CRON_TABS)?;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/crontabs.stable.example.com", "--timeout=10s"])?.ok();
    Ok(())
}

#[test]
fn a_custom_kind_is_used_as_any_other() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        defined(cluster)?;
        cluster.apply(MINE)?;
        let spec = cluster.object(&["crontab", "mine"])?["spec"].clone();
        assert_eq!((&spec["replicas"], &spec["steps"]), (&json!(1), &json!([{"name": "one", "run": "true"}])));
        assert_eq!(spec["free"], json!({"any": {"thing": 1}}));

        let table = cluster.kubectl(&["get", "ct"])?.ok();
        assert_eq!(headings(&table), ["NAME", "SPEC", "REPLICAS", "AGE"]);
        in_order(&table, &["mine", "* * * * */5", "1"]);
        in_order(&cluster.kubectl(&["get", "all"])?.ok(), &["crontab.stable.example.com/mine"]);
        assert_eq!(
            cluster.kubectl(&["get", "ct", "--field-selector=spec.image=my-image", "-o", "name"])?.ok().lines().count(),
            1
        );
        assert_eq!(cluster.kubectl(&["get", "ct", "--field-selector=spec.image=other", "-o", "name"])?.ok(), "");

        cluster.kubectl(&["patch", "ct", "mine", "--type=merge", "-p", r#"{"spec":{"most":8}}"#])?.ok();
        cluster.kubectl(&["scale", "ct/mine", "--replicas=3"])?.ok();
        let object = cluster.object(&["ct", "mine"])?;
        assert_eq!((&object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(3), &json!(3)));

        let old = cluster.object(&["crontabs.v1beta1.stable.example.com", "mine"])?;
        assert_eq!((&old["apiVersion"], &old["spec"]["replicas"]), (&json!("stable.example.com/v1beta1"), &json!(3)));
        in_order(
            &cluster.kubectl(&["explain", "crontab.spec"])?.ok(),
            &["What to run.", "cronSpec", "When.", "replicas"],
        );

        cluster.kubectl(&["delete", "crd", "crontabs.stable.example.com", "--timeout=20s"])?.ok();
        let gone = cluster.kubectl(&["get", "crontabs"])?.error();
        // As its discovery cache has it.
        let told = ["the server doesn't have a resource type", "the server could not find the requested resource"];
        assert!(told.iter().any(|told| gone.contains(told)), "{gone}");
        // Made anew, it has nothing of before.
        defined(cluster)?;
        assert_eq!(cluster.kubectl(&["get", "ct", "-o", "name"])?.ok(), "");
        Ok(())
    }));
}

#[test]
fn a_custom_object_owns_and_is_owned_as_any_other() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        defined(&cluster)?;
        let owned = |owner: &str, kind: &str, name: &str, rest: serde_json::Value| {
            let uid = cluster.object(&["ct", owner])?["metadata"]["uid"].clone();
            let mut object = json!({"metadata": {"name": name, "ownerReferences": [{"apiVersion": "stable.example.com/v1",
                "kind": "CronTab", "name": owner, "uid": uid, "blockOwnerDeletion": true}]}});
            object["kind"] = kind.into();
            object["apiVersion"] = if kind == "CronTab" { "stable.example.com/v1" } else { "v1" }.into();
            object["spec"] = rest;
            cluster.apply(&object.to_string())
        };
        let gone = |what: &'static str, name: &'static str| {
            eventually("what nobody owns is collected", || {
                let found = cluster.kubectl(&["get", what, name, "--ignore-not-found", "-o", "name"])?.ok();
                ensure!(found.is_empty(), "{found}");
                Ok(())
            });
        };
        // The owner goes first, its dependents follow: a kind made at run time is followed like the others.
        for cascade in ["background", "foreground"] {
            cluster.apply(MINE)?;
            owned("mine", "CronTab", "child", json!({"cronSpec": "* * * * *"}))?;
            owned("child", "ConfigMap", "grandchild", json!(null))?;
            cluster.kubectl(&["delete", "ct", "mine", &format!("--cascade={cascade}"), "--timeout=20s"])?.ok();
            gone("ct", "child");
            gone("cm", "grandchild");
        }
        // Left behind by their owner.
        cluster.apply(MINE)?;
        owned("mine", "CronTab", "child", json!({"cronSpec": "* * * * *"}))?;
        cluster.kubectl(&["delete", "ct", "mine", "--cascade=orphan", "--timeout=20s"])?.ok();
        assert_eq!(cluster.object(&["ct", "child"])?["metadata"].get("ownerReferences"), None);
        cluster.finish()
    })());
}

#[test]
fn bad_objects_are_refused_in_upstreams_words() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        defined(&cluster)?;
        let try_one = |spec: &str| -> Result<String> {
            let manifest =
                format!("apiVersion: stable.example.com/v1\nkind: CronTab\nmetadata: {{name: bad}}\nspec: {spec}\n");
            Ok(cluster.kubectl_input(&["create", "-f", "-"], &manifest)?.error())
        };
        for (spec, message) in [
            (
                r#"{cronSpec: "* * * *"}"#,
                r#"spec.cronSpec: Invalid value: "* * * *": spec.cronSpec in body should match '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$'"#,
            ),
            (
                r#"{cronSpec: "* * * * *", replicas: 15, most: 20}"#,
                "spec.replicas: Invalid value: 15: spec.replicas in body should be less than or equal to 10",
            ),
            (
                r#"{cronSpec: "* * * * *", replicas: many}"#,
                r#"spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string""#,
            ),
            ("{}", "spec.cronSpec: Required value"),
            (
                r#"{cronSpec: "* * * * *", replicas: 9}"#,
                r#"spec: Invalid value: "object": replicas may not exceed most"#,
            ),
            (
                r#"{cronSpec: "* * * * *", steps: [{name: a}, {name: a}]}"#,
                r#"spec.steps[1]: Duplicate value: {"name":"a"}"#,
            ),
            (r#"{cronSpec: "* * * * *", unknown: 1}"#, r#"unknown field "spec.unknown""#),
        ] {
            let error = try_one(spec)?;
            assert!(error.contains(message), "{spec}:\n{error}\nwants\n{message}");
        }
        cluster.apply(MINE)?;
        let changed =
            cluster.kubectl(&["patch", "ct", "mine", "--type=merge", "-p", r#"{"spec":{"image":"other"}}"#])?.error();
        assert!(changed.contains("image is immutable"), "{changed}");

        let crd = |name: &str, plural: &str, kind: &str, schema: &str| {
            format!(
                "---\n{{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {{name: {name}}}, spec: {{group: example.com, scope: Cluster, names: {{plural: {plural}, kind: {kind}}}, versions: [{{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {schema}}}}}]}}}}"
            )
        };
        for (manifest, message) in [
            (
                crd("x.example.com", "xs", "X", "{type: object}"),
                r#"metadata.name: Invalid value: "x.example.com": must be spec.names.plural+"."+spec.group"#,
            ),
            (
                crd(
                    "xs.example.com",
                    "xs",
                    "X",
                    "{type: object, x-kubernetes-validations: [{rule: 'self.nope == 1'}]}",
                ),
                "undefined field 'nope'",
            ),
            (crd("xs.example.com", "xs", "X", "{}"), "must not be empty at the root"),
        ] {
            let error = cluster.kubectl_input(&["create", "-f", "-"], &manifest)?.error();
            assert!(error.contains(message), "{error}");
        }
        cluster.finish()
    })());
}

#[test]
fn a_stricter_definition_does_not_lock_its_objects() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        let define = |schema: &str| -> Result<()> {
            cluster.apply(&format!(
                "---\n{{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {{name: boats.example.com}}, spec: {{group: example.com, scope: Cluster, names: {{plural: boats, kind: Boat}}, versions: [{{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object, properties: {{spec: {{type: object, properties: {schema}}}}}}}}}}}]}}}}"
            ))?;
            cluster.kubectl(&["wait", "--for=condition=Established", "crd/boats.example.com", "--timeout=10s"])?.ok();
            Ok(())
        };
        define("{sails: {type: integer}, name: {type: string}, flag: {type: string}}")?;
        cluster.apply(
            "---\n{apiVersion: example.com/v1, kind: Boat, metadata: {name: one}, spec: {sails: 0, name: ONE}}",
        )?;
        define(
            "{sails: {type: integer, x-kubernetes-validations: [{rule: self > 0, message: a boat has a sail}]}, name: {type: string, pattern: '^[a-z]*$'}, flag: {type: string}}",
        )?;
        let patch = |spec: &str| {
            cluster.kubectl(&["patch", "boat", "one", "--type=merge", "-p", &format!(r#"{{"spec":{spec}}}"#)])
        };
        eventually("the stricter schema is served", || {
            let refused = patch(r#"{"name":"TWO"}"#)?;
            ensure!(
                !refused.success && refused.stderr.contains("spec.name in body should match"),
                "{}",
                refused.stderr
            );
            Ok(())
        });
        // What the update leaves as it was is told, where a rule is against it, and let through.
        let kept = patch(r#"{"flag":"red"}"#)?;
        assert!(kept.success, "{}", kept.stderr);
        assert!(
            kept.stderr.contains(r#"Warning: spec.sails: Invalid value: "integer": a boat has a sail"#),
            "{}",
            kept.stderr
        );
        let changed = patch(r#"{"sails":-1}"#)?.error();
        assert!(changed.contains("a boat has a sail"), "{changed}");
        cluster.finish()
    })());
}

#[test]
fn names_are_had_by_one_definition_at_a_time() {
    must((|| {
        let mut cluster = Cluster::start(Options::default())?;
        let crd = |plural: &str, singular: &str| {
            format!(
                "---\n{{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {{name: {plural}.example.com}}, spec: {{group: example.com, scope: Cluster, names: {{plural: {plural}, singular: {singular}, kind: Thing}}, versions: [{{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object}}}}}}]}}}}"
            )
        };
        let condition = |cluster: &Cluster, name: &str, kind: &str| -> Result<serde_json::Value> {
            let object = cluster.object(&["crd", name])?;
            let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            Ok(all.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default())
        };
        cluster.apply(&crd("things", "thing"))?;
        cluster.kubectl(&["wait", "--for=condition=Established", "crd/things.example.com", "--timeout=10s"])?.ok();
        cluster.apply(&crd("others", "other"))?;
        eventually("the second is told", || {
            let accepted = condition(&cluster, "others.example.com", "NamesAccepted")?;
            ensure!(
                accepted["reason"] == "KindConflict" && accepted["message"] == "\"Thing\" is already in use",
                "{accepted}"
            );
            Ok(())
        });
        cluster
            .kubectl_input(
                &["create", "-f", "-"],
                "---\n{apiVersion: example.com/v1, kind: Thing, metadata: {name: one}}",
            )?
            .ok();

        // A restart serves what is stored before it is ready.
        cluster.stop_server(Signal::SIGKILL)?;
        cluster.start_server()?;
        assert_eq!(cluster.kubectl(&["get", "things", "-o", "name"])?.ok().trim(), "thing.example.com/one");

        cluster.kubectl(&["delete", "crd", "things.example.com", "--timeout=20s"])?.ok();
        cluster.kubectl(&["wait", "--for=condition=Established", "crd/others.example.com", "--timeout=10s"])?.ok();
        assert_eq!(cluster.kubectl(&["get", "others", "-o", "name"])?.ok(), "");
        cluster.finish()
    })());
}
