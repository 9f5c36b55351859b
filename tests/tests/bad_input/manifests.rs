//! Wrong manifests as a user meets them: through kubectl, in every version.

use anyhow::Result;
use tests::{Cluster, Options, must, with_every_kubectl};

use crate::in_order;

/// As the tutorial's page prints it, with both of its slips.
const PRINTED: &str = "appiVersion: v1\nkind: Servvice\nmetadata:\n  name: my-nginx\n  labels:\n    run: my-nginx\nspec:\n  \
                       ports:\n  - port: 80\n    protocol: TCP\n  selector:\n    run: my-nginx\n";

const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: 0\n  selector:\n    \
                          matchLabels:\n      app: web\n  template:\n    metadata:\n      labels:\n        app: web\n    spec:\n      \
                          containers:\n      - name: web\n        image: nginx\n";

#[test]
fn kubectl_says_what_is_wrong_and_nothing_is_made() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        let before = everything(cluster)?;
        let ensure = "ensure CRDs are installed first";
        let no_kind = "error: resource mapping not found for name: \"my-nginx\" namespace: \"\" from \"STDIN\": no matches for kind \"Servvice\" in version \"v1\"";
        let no_version = "error: error validating \"STDIN\": error validating data: apiVersion not set;";
        let right_version = PRINTED.replace("appiVersion", "apiVersion");
        let right_kind = PRINTED.replace("Servvice", "Service");
        let table: [(String, &[&str]); 12] = [
            (PRINTED.into(), &[no_version]),
            (right_kind, &[no_version]),
            (right_version, &[no_kind, ensure]),
            (
                DEPLOYMENT.replace("apps/v1", "apps/v2"),
                &["no matches for kind \"Deployment\" in version \"apps/v2\"", ensure],
            ),
            (
                DEPLOYMENT.replace("replicas", "replica"),
                &[
                    "Error from server (BadRequest)",
                    "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.replica\"",
                ],
            ),
            (
                DEPLOYMENT.replace("replicas: 0", "replicas: many"),
                &[
                    "Error from server (BadRequest)",
                    "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
                ],
            ),
            (
                DEPLOYMENT.replace("  selector:\n    matchLabels:\n      app: web\n", ""),
                &[
                    "The Deployment \"web\" is invalid: \n",
                    "* spec.selector: Required value\n",
                    "* spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                DEPLOYMENT.replace("labels:\n        app: web", "labels:\n        app: other"),
                &[
                    "The Deployment \"web\" is invalid: spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                DEPLOYMENT.replace("name: web\nspec", "name: Web_1\nspec"),
                &[
                    "The Deployment \"Web_1\" is invalid: metadata.name: Invalid value: \"Web_1\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters",
                ],
            ),
            (
                DEPLOYMENT.replace("image: nginx", "image: nginx\n        ports:\n        - containerPort: 70000"),
                &[
                    "spec.template.spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                DEPLOYMENT.replace("name: web\nspec", "name: web\n  namespace: nowhere\nspec"),
                &["Error from server (NotFound)", "namespaces \"nowhere\" not found"],
            ),
            ("kind: [".into(), &["error", "yaml"]),
        ];
        for (manifest, needles) in table {
            for verb in ["create", "apply"] {
                let refused = cluster.kubectl_input(&[verb, "-f", "-"], &manifest)?.error();
                in_order(&refused, needles);
            }
        }
        assert_eq!(everything(cluster)?, before);

        // Asked to only warn, the server warns.
        let unknown = DEPLOYMENT.replace("replicas: 0", "replicas: 0\n  colour: red");
        let warned = cluster.kubectl_input(&["create", "--validate=warn", "-f", "-"], &unknown)?;
        assert_eq!(warned.stderr, "Warning: unknown field \"spec.colour\"\n");
        assert_eq!(warned.ok(), "deployment.apps/web created\n");
        // A wrong change leaves what was there.
        let web = cluster.object(&["deploy", "web"])?;
        let wrong = DEPLOYMENT.replace("replicas: 0", "replicas: -3");
        let refused = cluster.kubectl_input(&["apply", "-f", "-"], &wrong)?.error();
        in_order(
            &refused,
            &[
                "The Deployment \"web\" is invalid: spec.replicas: Invalid value: -3: must be greater than or equal to 0",
            ],
        );
        // Its status is still being written.
        let now = cluster.object(&["deploy", "web"])?;
        assert_eq!((&now["spec"], &now["metadata"]["generation"]), (&web["spec"], &web["metadata"]["generation"]));
        // Of several objects the right ones are made.
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: right}\nspec: {ports: [{port: 80}]}\n";
        let both = cluster.kubectl_input(
            &["create", "-f", "-"],
            &format!("{service}---\n{}", PRINTED.replace("appiVersion", "apiVersion")),
        )?;
        assert!(both.stdout.contains("service/right created"), "{both:?}");
        in_order(&both.error(), &[no_kind]);
        Ok(())
    }));
}

/// The names of all that a user could have made.
fn everything(cluster: &Cluster) -> Result<String> {
    Ok(cluster.kubectl(&["get", "-A", "-o", "name", "pods,deploy,rs,svc,cm,secrets,sa,endpoints,endpointslices"])?.ok())
}
