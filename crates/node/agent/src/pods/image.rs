//! Getting a container's image: presence, pull policy, the imported image as a last resort, and the Events of it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, Pod};
use machinery_client::EventKind::{self, Normal, Warning};
use node_images::Name;

use crate::cluster::Report;
use crate::credentials::Keyring;
use crate::pods::{ImageOutcome, Machine};
use crate::seams::{Credentials, Image, PullError, chain};
use crate::state::ERR_IMAGE_PULL;

/// Looks the image up and pulls it as the policy says.
pub(super) async fn ensure(machine: Arc<Machine>, pod: Arc<Pod>, container: Container) -> ImageOutcome {
    let name = container.image.as_deref().unwrap_or_default();
    let policy = policy(name, container.image_pull_policy.as_deref());
    let attempt = Attempt { machine: &machine, pod: &pod, container: Some(&container.name), name, policy };
    ImageOutcome { result: attempt.run().await.map(Box::new) }
}

/// The same for a volume.
pub(super) async fn of_volume(machine: &Machine, pod: &Pod, source: &ImageVolumeSource) -> Result<Image, Failed> {
    let name = source.reference.as_deref().unwrap_or_default();
    let policy = policy(name, source.pull_policy.as_deref());
    let attempt = Attempt { machine, pod, container: None, name, policy };
    attempt.run().await
}

struct Attempt<'a> {
    machine: &'a Machine,
    pod: &'a Pod,
    container: Option<&'a str>,
    name: &'a str,
    policy: &'a str,
}

/// The reason of a container that waits for it, and why.
type Failed = (&'static str, String);

impl Attempt<'_> {
    async fn run(&self) -> Result<Image, Failed> {
        let name = self.name;
        let present = match self.machine.images.get(name).await {
            Ok(present) => present,
            Err(PullError::InvalidReference(cause)) => return Err(self.invalid(name, &cause)),
            Err(error) => {
                let message = format!("Failed to inspect image {name:?}: {}", chain(&error));
                self.event(Warning, "InspectFailed", &message);
                self.event(Warning, "Failed", "Error: ImageInspectError");
                return Err(("ImageInspectError", message));
            }
        };
        match (self.policy, present) {
            ("Never", None) => {
                let message = format!("Container image {name:?} is not present with pull policy of Never");
                self.event(Warning, "ErrImageNeverPull", &message);
                self.event(Warning, "Failed", "Error: ErrImageNeverPull");
                Err(("ErrImageNeverPull", message))
            }
            ("Never" | "IfNotPresent", Some(image)) => {
                let message =
                    format!("Container image {name:?} already present on machine and can be accessed by the pod");
                self.event(Normal, "Pulled", &message);
                Ok(image)
            }
            (_, present) => self.pull(name, present).await,
        }
    }

    async fn pull(&self, name: &str, present: Option<Image>) -> Result<Image, Failed> {
        self.event(Normal, "Pulling", &format!("Pulling image {name:?}"));
        let started = tokio::time::Instant::now();
        let credentials = self.credentials(name).await;
        let stand_in = present.filter(|image| image.imported);
        match self.machine.images.pull(name, &credentials, stand_in.as_ref()).await {
            Ok(image) => {
                let took = duration(started.elapsed());
                let message = format!(
                    "Successfully pulled image {name:?} in {took} ({took} including waiting). Image size: {} bytes.",
                    image.size
                );
                self.event(Normal, "Pulled", &message);
                self.machine.collector.look();
                Ok(image)
            }
            Err(PullError::InvalidReference(cause)) => Err(self.invalid(name, &cause)),
            Err(PullError::Unreachable(source)) => match stand_in {
                Some(image) => {
                    let message = format!(
                        "The registry of image {name:?} cannot be reached ({}); using the image imported on this node",
                        chain(&*source)
                    );
                    self.event(Warning, "UsingLocalImage", &message);
                    Ok(image)
                }
                None => Err(self.failed(name, &PullError::Unreachable(source))),
            },
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    fn failed(&self, name: &str, error: &PullError) -> Failed {
        let cause = chain(error);
        self.event(Warning, "Failed", &format!("Failed to pull image {name:?}: {cause}"));
        self.event(Warning, "Failed", &format!("Error: {ERR_IMAGE_PULL}"));
        (ERR_IMAGE_PULL, cause)
    }

    fn invalid(&self, name: &str, cause: &str) -> Failed {
        let message = format!("Failed to apply default image tag {name:?}: {cause}");
        self.event(Warning, "InspectFailed", &message);
        self.event(Warning, "Failed", "Error: InvalidImageName");
        ("InvalidImageName", message)
    }

    /// From the pod's imagePullSecrets, then from the node's credential providers.
    async fn credentials(&self, image: &str) -> Vec<Credentials> {
        let Ok(image) = Name::parse(image) else { return Vec::new() };
        let mut logins = self.secrets().await.logins(&image);
        logins.extend(self.machine.config.credential_providers.keyring(&image).await.logins(&image));
        logins
    }

    /// What the pod's imagePullSecrets hold; one that is missing or malformed only costs its logins.
    async fn secrets(&self) -> Keyring {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        let secrets = self.pod.spec.as_ref().and_then(|spec| spec.image_pull_secrets.as_ref());
        let mut keyring = Keyring::default();
        for reference in secrets.into_iter().flatten() {
            match self.machine.cluster.secret(namespace, &reference.name).await {
                Ok(Some(secret)) => {
                    let data = secret.data.unwrap_or_default();
                    if let Some(config) = data.get(".dockerconfigjson").or_else(|| data.get(".dockercfg")) {
                        keyring.add_docker_config(&config.0);
                    }
                }
                Ok(None) => {
                    let message = format!(
                        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                        reference.name
                    );
                    self.machine.cluster.report(
                        self.pod,
                        &Report {
                            container: None,
                            kind: Warning,
                            reason: "FailedToRetrieveImagePullSecret",
                            message: &message,
                        },
                    );
                }
                Err(error) => tracing::warn!(secret = %reference.name, error = %chain(&error), "pull secret not read"),
            }
        }
        keyring
    }

    fn event(&self, kind: EventKind, reason: &str, message: &str) {
        let container = self.container;
        self.machine.cluster.report(self.pod, &Report { container, kind, reason, message });
    }
}

/// The API server defaults the policy; without one, upstream's rule by tag.
fn policy<'a>(image: &str, given: Option<&'a str>) -> &'a str {
    match given {
        Some(policy) if !policy.is_empty() => policy,
        _ => {
            let last = image.rsplit('/').next().unwrap_or_default();
            let untagged = !last.contains(':') && !last.contains('@');
            if untagged || last.ends_with(":latest") { "Always" } else { "IfNotPresent" }
        }
    }
}

/// As Go prints a duration rounded to milliseconds.
fn duration(elapsed: std::time::Duration) -> String {
    let millis = elapsed.as_millis();
    match millis {
        0..1000 => format!("{millis}ms"),
        1000..60_000 => {
            let text = format!("{}.{:03}", millis / 1000, millis % 1000);
            format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => format!("{}m{}s", millis / 60_000, millis % 60_000 / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_go_does() {
        let millis = |millis| duration(std::time::Duration::from_millis(millis));
        assert_eq!([millis(313), millis(1661), millis(2000), millis(61_500)], ["313ms", "1.661s", "2s", "1m1s"]);
    }

    #[test]
    fn the_default_policy_goes_by_the_tag() {
        let policy_of = |image: &str| policy(image, None);
        assert_eq!(policy_of("nginx"), "Always");
        assert_eq!(policy_of("reg.test:5000/nginx:latest"), "Always");
        assert_eq!(policy_of("reg.test:5000/nginx"), "Always");
        assert_eq!(policy_of("nginx:1.27"), "IfNotPresent");
    }
}
