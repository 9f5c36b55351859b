//! Programs that give logins for images: kubelet's credential provider plug-ins, configured by a CredentialProviderConfig.
//!
//! A program reads a CredentialProviderRequest from its standard input and writes a CredentialProviderResponse, which says
//! for how long and for which images it may be remembered.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use node_images::Name;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::keyring::{Keyring, matches};
use crate::seams::{Credentials, chain};

/// How long a program may take, as upstream.
const PATIENCE: Duration = Duration::from_secs(60);
const CONFIG_VERSIONS: [&str; 3] =
    ["kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v1beta1", "kubelet.config.k8s.io/v1alpha1"];
const VERSIONS: [&str; 3] = [
    "credentialprovider.kubelet.k8s.io/v1",
    "credentialprovider.kubelet.k8s.io/v1beta1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
];

/// None by default.
#[derive(Debug, Default)]
pub struct Providers(Vec<Provider>);

#[derive(Debug, thiserror::Error)]
pub enum ProvidersError {
    #[error("read credential provider configuration {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("parse credential provider configuration {}", path.display())]
    Parse { path: PathBuf, source: serde_norway::Error },
    #[error("credential provider configuration {}: {field}: {reason}", path.display())]
    Invalid { path: PathBuf, field: String, reason: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    api_version: String,
    kind: String,
    #[serde(default)]
    providers: Vec<RawProvider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[derive(Default)]
struct RawProvider {
    name: String,
    match_images: Vec<String>,
    default_cache_duration: Option<String>,
    api_version: String,
    args: Vec<String>,
    env: Vec<Variable>,
    token_attributes: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug)]
struct Provider {
    program: PathBuf,
    api_version: &'static str,
    args: Vec<String>,
    env: Vec<Variable>,
    images: Vec<String>,
    default_life: Duration,
    /// Held while the program runs, so that the pods of a deployment do not each ask.
    remembered: Mutex<HashMap<Scope, (Instant, Keyring)>>,
}

/// The images for which a response is good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scope {
    Image(String),
    Registry(String),
    Global,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    api_version: &'a str,
    kind: &'a str,
    image: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    api_version: String,
    kind: String,
    cache_key_type: String,
    cache_duration: Option<String>,
    auth: Option<BTreeMap<String, Credentials>>,
}

#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("run the program")]
    Run(#[source] std::io::Error),
    #[error("the program did not end within {} s", PATIENCE.as_secs())]
    Late,
    #[error("the program ended with {status}: {stderr}")]
    Failed { status: std::process::ExitStatus, stderr: String },
    // Without its cause, which may quote a password.
    #[error("its answer is no CredentialProviderResponse of {0}")]
    Answer(&'static str),
    #[error("its answer has the {field} {value:?}")]
    Field { field: &'static str, value: String },
}

impl Providers {
    /// Reads a CredentialProviderConfig, YAML or JSON; its programs are in `directory`.
    pub fn load(path: &Path, directory: &Path) -> Result<Self, ProvidersError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ProvidersError::Read { path: path.to_owned(), source })?;
        let config: Config =
            serde_norway::from_str(&text).map_err(|source| ProvidersError::Parse { path: path.to_owned(), source })?;
        let invalid = |(field, reason)| ProvidersError::Invalid { path: path.to_owned(), field, reason };
        config.providers(directory).map(Self).map_err(invalid)
    }

    /// What the programs know of the image; one that fails only costs its logins.
    pub(crate) async fn keyring(&self, image: &Name) -> Keyring {
        let mut keyring = Keyring::default();
        for provider in &self.0 {
            if !provider.images.iter().any(|place| matches(place, image)) {
                continue;
            }
            match provider.ask(image).await {
                Ok(found) => keyring.extend(&found),
                Err(error) => {
                    let (program, error) = (provider.program.display(), chain(&error));
                    tracing::warn!(%program, %image, %error, "no login from this credential provider");
                }
            }
        }
        keyring
    }
}

type Invalid = (String, String);

impl Config {
    fn providers(self, directory: &Path) -> Result<Vec<Provider>, Invalid> {
        if self.kind != "CredentialProviderConfig" {
            return Err(("kind".to_owned(), format!("{:?} is not CredentialProviderConfig", self.kind)));
        }
        known("apiVersion".to_owned(), &self.api_version, &CONFIG_VERSIONS)?;
        if self.providers.is_empty() {
            return Err(("providers".to_owned(), "at least 1 is required".to_owned()));
        }
        let mut providers = Vec::<Provider>::new();
        for (position, raw) in self.providers.into_iter().enumerate() {
            let provider =
                raw.check(directory).map_err(|(field, reason)| (format!("providers[{position}].{field}"), reason))?;
            if providers.iter().any(|other| other.program == provider.program) {
                return Err((format!("providers[{position}].name"), "another provider has it".to_owned()));
            }
            providers.push(provider);
        }
        Ok(providers)
    }
}

impl RawProvider {
    fn check(self, directory: &Path) -> Result<Provider, Invalid> {
        let invalid = |field: &str, reason: &str| Err((field.to_owned(), reason.to_owned()));
        if self.name.is_empty() || self.name.contains(['/', ' ']) || [".", ".."].contains(&self.name.as_str()) {
            return invalid("name", "it must be the name of a program, without '/' and spaces");
        }
        let program = directory.join(&self.name);
        if !program.is_file() {
            return Err(("name".to_owned(), format!("there is no program {}", program.display())));
        }
        if self.match_images.is_empty() {
            return invalid("matchImages", "at least 1 is required");
        }
        if let Some(bad) = self.match_images.iter().find(|image| image.is_empty() || image.contains("://")) {
            return Err(("matchImages".to_owned(), format!("{bad:?} is not HOST[:PORT][/PATH]")));
        }
        if self.token_attributes.is_some() {
            return invalid("tokenAttributes", "tokens of service accounts are not given to credential providers");
        }
        let Some(life) = self.default_cache_duration else { return invalid("defaultCacheDuration", "required") };
        let Some(default_life) = duration(&life) else {
            return Err(("defaultCacheDuration".to_owned(), format!("{life:?} is not a duration such as 12h")));
        };
        Ok(Provider {
            program,
            api_version: known("apiVersion".to_owned(), &self.api_version, &VERSIONS)?,
            args: self.args,
            env: self.env,
            images: self.match_images,
            default_life,
            remembered: Mutex::default(),
        })
    }
}

fn known(field: String, value: &str, values: &[&'static str]) -> Result<&'static str, Invalid> {
    let found = values.iter().find(|known| **known == value).copied();
    found.ok_or_else(|| (field, format!("{value:?} is none of {}", values.join(", "))))
}

/// As Go prints it, `1h30m`; not negative.
fn duration(text: &str) -> Option<Duration> {
    text.parse::<jiff::SignedDuration>().ok()?.try_into().ok()
}

impl Provider {
    async fn ask(&self, image: &Name) -> Result<Keyring, RunError> {
        let mut remembered = self.remembered.lock().await;
        let now = Instant::now();
        remembered.retain(|_, (end, _)| *end > now);
        let name = format!("{}/{}", image.registry(), image.repository());
        let registry = image.registry().to_owned();
        for scope in [Scope::Image(name.clone()), Scope::Registry(registry.clone()), Scope::Global] {
            if let Some((_, keyring)) = remembered.get(&scope) {
                return Ok(keyring.clone());
            }
        }
        let response = self.run(&name).await?;
        let scope = match response.cache_key_type.as_str() {
            "Image" => Scope::Image(name),
            "Registry" => Scope::Registry(registry),
            "Global" => Scope::Global,
            _ => return Err(RunError::Field { field: "cacheKeyType", value: response.cache_key_type }),
        };
        let life = match response.cache_duration {
            None => self.default_life,
            Some(text) => duration(&text).ok_or(RunError::Field { field: "cacheDuration", value: text })?,
        };
        let mut keyring = Keyring::default();
        for (place, login) in response.auth.unwrap_or_default() {
            keyring.add(&place, login);
        }
        if !life.is_zero() {
            remembered.insert(scope, (Instant::now() + life, keyring.clone()));
        }
        Ok(keyring)
    }

    async fn run(&self, image: &str) -> Result<Response, RunError> {
        let request = Request { api_version: self.api_version, kind: "CredentialProviderRequest", image };
        let request = serde_json::to_vec(&request).map_err(|error| RunError::Run(error.into()))?;
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|variable| (&variable.name, &variable.value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(RunError::Run)?;
        let stdin = child.stdin.take();
        let talk = async {
            if let Some(mut stdin) = stdin {
                // A program that does not ask for which image closes it.
                let _ = stdin.write_all(&request).await;
            }
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(PATIENCE, talk).await.map_err(|_| RunError::Late)?.map_err(RunError::Run)?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(RunError::Failed { status: output.status, stderr });
        }
        let answer = serde_json::from_slice::<Response>(&output.stdout);
        let fits =
            |answer: &Response| answer.api_version == self.api_version && answer.kind == "CredentialProviderResponse";
        answer.ok().filter(fits).ok_or(RunError::Answer(self.api_version))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new(script: &str) -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            let program = host.0.path().join("login");
            std::fs::write(&program, format!("#!/bin/sh\necho >> {}\n{script}", host.0.path().join("runs").display()))
                .unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            host
        }

        fn load(&self, config: &str) -> Result<Providers, ProvidersError> {
            let path = self.0.path().join("config.yaml");
            std::fs::write(&path, config).unwrap();
            Providers::load(&path, self.0.path())
        }

        fn providers(&self) -> Providers {
            self.load(CONFIG).unwrap()
        }

        fn runs(&self) -> usize {
            std::fs::read_to_string(self.0.path().join("runs")).map_or(0, |runs| runs.lines().count())
        }
    }

    const CONFIG: &str = "
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: login
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  matchImages: ['*.cloud.test', reg.test:5000/team]
  defaultCacheDuration: 12h
  args: [me]
  env: [{name: SUFFIX, value: '!'}]
";

    /// Answers with the argument as the user, and the image that was asked for as the password.
    fn answers(scope: &str, life: &str) -> String {
        format!(
            r#"image=$(sed -n 's/.*"image":"\([^"]*\)".*/\1/p')
cat <<EOF
{{"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderResponse",
 "cacheKeyType": "{scope}"{life}, "auth": {{"*.cloud.test": {{"username": "$1$SUFFIX", "password": "$image"}}}}}}
EOF
"#
        )
    }

    async fn logins(providers: &Providers, image: &str) -> Vec<(String, String)> {
        let image = Name::parse(image).unwrap();
        let logins = providers.keyring(&image).await.logins(&image);
        logins.into_iter().map(|login| (login.username, login.password)).collect()
    }

    #[tokio::test]
    async fn a_program_is_asked_for_images_it_is_for_and_its_answer_remembered() {
        for (scope, runs) in [("Image", 3), ("Registry", 2), ("Global", 1)] {
            let host = Host::new(&answers(scope, ""));
            let providers = host.providers();
            assert_eq!(logins(&providers, "nginx").await, []);
            assert_eq!(logins(&providers, "reg.test/team/web").await, []);
            assert_eq!(host.runs(), 0);
            let found = logins(&providers, "eu.cloud.test/web:1").await;
            assert_eq!(found, [("me!".to_owned(), "eu.cloud.test/web".to_owned())]);
            for image in ["eu.cloud.test/web:2", "eu.cloud.test/other", "us.cloud.test/web"] {
                assert_eq!(logins(&providers, image).await.len(), 1, "{image}");
            }
            assert_eq!(host.runs(), runs, "{scope}");
        }
        let host = Host::new(&answers("Global", r#", "cacheDuration": "0s""#));
        let providers = host.providers();
        for _ in 0..2 {
            assert_eq!(logins(&providers, "eu.cloud.test/web:1").await.len(), 1);
        }
        assert_eq!(host.runs(), 2);
    }

    #[tokio::test]
    async fn a_program_that_fails_gives_nothing_and_says_why() {
        let image = Name::parse("eu.cloud.test/web").unwrap();
        for (script, cause) in [
            ("echo no luck >&2; exit 3", "exit status: 3: no luck"),
            ("echo '{}'", "no CredentialProviderResponse of credentialprovider.kubelet.k8s.io/v1"),
            (&answers("Never", ""), "the cacheKeyType \"Never\""),
            (&answers("Image", r#", "cacheDuration": "soon""#), "the cacheDuration \"soon\""),
        ] {
            let host = Host::new(script);
            let providers = host.providers();
            let Err(error) = providers.0[0].ask(&image).await else { panic!("{cause}") };
            assert!(chain(&error).contains(cause), "{}", chain(&error));
            assert_eq!(logins(&providers, "eu.cloud.test/web").await, []);
        }
    }

    #[test]
    fn a_bad_configuration_names_the_field() {
        let host = Host::new("");
        assert!(host.load(CONFIG).is_ok());
        for (from, to, cause) in [
            ("CredentialProviderConfig", "Pod", "kind: \"Pod\" is not CredentialProviderConfig"),
            ("kubelet.config.k8s.io/v1", "v1", "apiVersion: \"v1\" is none of"),
            ("login", "../sh", "providers[0].name: it must be"),
            ("login", "absent", "providers[0].name: there is no program"),
            ("['*.cloud.test', reg.test:5000/team]", "[]", "providers[0].matchImages: at least 1"),
            ("'*.cloud.test'", "'https://x'", "providers[0].matchImages: \"https://x\""),
            ("12h", "-1h", "providers[0].defaultCacheDuration: \"-1h\""),
            ("defaultCacheDuration: 12h", "args: []", "duplicate"),
            ("  defaultCacheDuration: 12h\n", "", "providers[0].defaultCacheDuration: required"),
            ("credentialprovider.kubelet.k8s.io/v1", "v1", "providers[0].apiVersion: \"v1\""),
            ("args:", "tokenAttributes: {}\n  args:", "providers[0].tokenAttributes"),
            ("args:", "arguments:", "unknown field `arguments`"),
        ] {
            let error = host.load(&CONFIG.replacen(from, to, 1)).unwrap_err();
            assert!(chain(&error).contains(cause), "{}", chain(&error));
        }
        let missing = Providers::load(&host.0.path().join("none"), host.0.path()).unwrap_err();
        assert!(matches!(missing, ProvidersError::Read { .. }), "{missing}");
    }
}
