//! `sampan token`: by which nodes join. Tokens are Secrets of `kube-system`; the server on this host is asked for them.

mod client;

use std::io::Write;
use std::path::Path;

use ::api::bootstrap_token::{self as bootstrap, Expiry};
use anyhow::{Context, Result, bail};
use base_meta::decode_value;
use base_tasks::Tasks;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use machinery_client::kube::{self, Client};
use serde_json::{Value, json};

use crate::config::{NewToken, Token, TokenCommand};
use crate::host;
use crate::join_token::{self, JoinToken};
use crate::trust::Trust;

use self::client::Api;

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";

pub async fn run(options: Token) -> Result<()> {
    let tasks = Tasks::root("token");
    let api = Api::of(&host::data_dir(&options.data.data_dir)?, &tasks)?;
    let mut out = std::io::stdout().lock();
    match options.command {
        TokenCommand::Create(new) => {
            let token = match &new.token {
                Some(token) => join_token::bearer(token).to_owned(),
                None => random()?,
            };
            let secret = secret(&new, &token, Timestamp::now())?;
            api.call(Method::POST, SECRETS, Some(&secret)).await.context("creating the token")?;
            writeln!(out, "{}", JoinToken { authority: api.authority.hash(), bearer: token })?;
        }
        TokenCommand::List => {
            let query = format!("{SECRETS}?fieldSelector=type%3D{}", bootstrap::SECRET_TYPE.replace('/', "%2F"));
            let list = api.call(Method::GET, &query, None).await.context("listing the tokens")?;
            let secrets = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            write!(out, "{}", table(secrets, Timestamp::now()))?;
        }
        TokenCommand::Delete { tokens } => {
            for token in tokens {
                let id = id(&token)?;
                let path = format!("{SECRETS}/{}{id}", bootstrap::NAME_PREFIX);
                api.call(Method::DELETE, &path, None).await.with_context(|| format!("deleting {id}"))?;
                writeln!(out, "bootstrap token {id:?} deleted")?;
            }
        }
    }
    Ok(())
}

/// The server's own `--token`: it holds for as long as it is given, and nodes find it whole in `<data-dir>/node-token`.
pub async fn keep(client: &Client, data_dir: &Path, token: &str, authority: &Trust) -> Result<()> {
    let bearer = join_token::bearer(token);
    let new = NewToken {
        token: None,
        ttl: SignedDuration::ZERO,
        description: Some("The server's --token.".to_owned()),
        usages: vec!["signing".to_owned(), "authentication".to_owned()],
        groups: vec![bootstrap::JOINING.to_owned()],
    };
    let secret = secret(&new, bearer, Timestamp::now()).context("--token")?;
    let secret: Secret = decode_value(&secret).context("--token")?;
    let api: kube::Api<Secret> = kube::Api::namespaced(client.clone(), bootstrap::NAMESPACE);
    match api.create(&kube::api::PostParams::default(), &secret).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        created => drop(created.context("keeping --token")?),
    }
    let whole = JoinToken { authority: authority.hash(), bearer: bearer.to_owned() };
    crate::pki::write_private(&data_dir.join("node-token"), format!("{whole}\n").as_bytes())
}

/// The id alone, or the whole token.
fn id(text: &str) -> Result<&str> {
    let text = join_token::bearer(text);
    let id = bootstrap::parse(text).map_or(text, |(id, _)| id);
    // As the first half of a token that is one.
    if bootstrap::parse(&format!("{id}.0000000000000000")).is_none() {
        bail!(
            "given token didn't match pattern \"\\A([a-z0-9]{{6}})\\z\" or \"\\A([a-z0-9]{{6}})\\.([a-z0-9]{{16}})\\z\""
        );
    }
    Ok(id)
}

pub fn random() -> Result<String> {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut letters = String::new();
    while letters.len() < 22 {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        // The last four values would favour the first letters.
        let fair = bytes.iter().filter(|byte| **byte < 252).map(|byte| usize::from(*byte) % LETTERS.len());
        letters.extend(fair.filter_map(|at| LETTERS.get(at)).map(|letter| char::from(*letter)));
    }
    Ok(format!("{}.{}", &letters[..6], &letters[6..22]))
}

/// A length of time as kubectl and Go write it; zero: for ever.
pub fn ttl(text: &str) -> Result<SignedDuration, String> {
    let parsed = if text == "0" { Ok(SignedDuration::ZERO) } else { text.parse::<SignedDuration>() };
    let parsed = parsed.map_err(|_| "expected a length of time, such as 24h, 90m or 1h30m; 0 never ends".to_owned())?;
    if parsed.is_negative() { Err("it must not be negative".to_owned()) } else { Ok(parsed) }
}

fn secret(new: &NewToken, token: &str, now: Timestamp) -> Result<Value> {
    let Some((id, secret)) = bootstrap::parse(token) else {
        bail!("the bootstrap token {token:?} was not of the form \"\\A([a-z0-9]{{6}})\\.([a-z0-9]{{16}})\\z\"");
    };
    let mut data = json!({bootstrap::ID: id, bootstrap::SECRET: secret, bootstrap::EXTRA_GROUPS: new.groups.join(",")});
    for usage in &new.usages {
        let key = match usage.as_str() {
            "authentication" => bootstrap::USAGE_AUTHENTICATION,
            "signing" => bootstrap::USAGE_SIGNING,
            other => {
                bail!("invalid bootstrap token usage string: {other}, valid usage options: authentication,signing")
            }
        };
        data[key] = "true".into();
    }
    if let Some(description) = &new.description {
        data[bootstrap::DESCRIPTION] = description.as_str().into();
    }
    if !new.ttl.is_zero() {
        let end = now.checked_add(new.ttl).context("--ttl")?;
        let end = Timestamp::from_second(end.as_second()).context("--ttl")?;
        data[bootstrap::EXPIRATION] = end.to_string().into();
    }
    Ok(json!({"apiVersion": "v1", "kind": "Secret", "type": bootstrap::SECRET_TYPE, "stringData": data,
        "metadata": {"name": format!("{}{id}", bootstrap::NAME_PREFIX), "namespace": bootstrap::NAMESPACE}}))
}

/// As kubeadm lists them.
fn table(secrets: &[Value], now: Timestamp) -> String {
    let none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
    let mut rows = vec![["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"].map(str::to_owned)];
    for secret in secrets {
        let datum = |key: &str| bootstrap::datum(secret, key);
        let (ttl, expires) = match bootstrap::expiry(secret, now) {
            Expiry::Never => ("<forever>".to_owned(), "<never>".to_owned()),
            Expiry::In(left) => (human(left.as_secs()), datum(bootstrap::EXPIRATION)),
            Expiry::Past => ("<invalid>".to_owned(), datum(bootstrap::EXPIRATION)),
        };
        let usages = [("authentication", bootstrap::USAGE_AUTHENTICATION), ("signing", bootstrap::USAGE_SIGNING)];
        let usages: Vec<&str> = usages.iter().filter(|(_, key)| datum(key) == "true").map(|(name, _)| *name).collect();
        let token = format!("{}.{}", datum(bootstrap::ID), datum(bootstrap::SECRET));
        let (description, groups) = (none(datum(bootstrap::DESCRIPTION)), none(datum(bootstrap::EXTRA_GROUPS)));
        rows.push([token, ttl, expires, none(usages.join(",")), description, groups]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("   ").trim_end())
    });
    lines.collect()
}

/// The largest unit alone.
fn human(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn new(usages: &[&str]) -> NewToken {
        NewToken {
            token: None,
            ttl: SignedDuration::from_hours(24),
            description: Some("for two".into()),
            usages: usages.iter().map(|usage| (*usage).to_owned()).collect(),
            groups: vec![bootstrap::JOINING.to_owned()],
        }
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00.5Z".parse().expect("a time")
    }

    #[test]
    fn tokens_are_random_and_of_their_form() {
        let (one, other) = (random().expect("one"), random().expect("another"));
        assert!(bootstrap::parse(&one).is_some() && bootstrap::parse(&other).is_some());
        assert_ne!(one, other);
        assert_eq!(id(&one).expect("an id"), &one[..6]);
        assert_eq!(id("abcdef").expect("an id"), "abcdef");
        assert!(id("ABCDEF").is_err() && id("abcdef.1").is_err());
    }

    #[test]
    fn a_token_is_a_secret() {
        let made = secret(&new(&["signing", "authentication"]), "abcdef.0123456789abcdef", now()).expect("a Secret");
        assert_eq!(made["metadata"]["name"], "bootstrap-token-abcdef");
        let data = &made["stringData"];
        assert_eq!(data["expiration"], "2026-01-02T00:00:00Z");
        assert_eq!((&data["usage-bootstrap-signing"], &data["description"]), (&json!("true"), &json!("for two")));
        let forever = NewToken { ttl: SignedDuration::ZERO, ..new(&[]) };
        let made = secret(&forever, "abcdef.0123456789abcdef", now()).expect("a Secret");
        assert!(made["stringData"]["expiration"].is_null());
        assert!(secret(&new(&["other"]), "abcdef.0123456789abcdef", now()).is_err());
        assert!(secret(&new(&[]), "abcdef", now()).is_err());
    }

    #[test]
    fn lengths_of_time() {
        assert_eq!(ttl("24h"), Ok(SignedDuration::from_hours(24)));
        assert_eq!(ttl("1h30m"), Ok(SignedDuration::from_mins(90)));
        assert_eq!(ttl("0"), Ok(SignedDuration::ZERO));
        for bad in ["", "x", "24", "-1h"] {
            assert!(ttl(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_table_as_kubeadms() {
        let encoded = |value: &Value| {
            json!({"data": value.as_object().into_iter().flatten().map(|(key, value)| {
            (key.clone(), json!(STANDARD.encode(value.as_str().unwrap_or(""))))
        }).collect::<serde_json::Map<_, _>>()})
        };
        let one = json!({"token-id": "abcdef", "token-secret": "0123456789abcdef", "expiration": "2026-01-01T23:00:01Z",
            "usage-bootstrap-signing": "true", "usage-bootstrap-authentication": "true"});
        let other = json!({"token-id": "ghijkl", "token-secret": "0123456789abcdef", "description": "mine"});
        let text = table(&[encoded(&one), encoded(&other)], now());
        let expected = "\
TOKEN                     TTL         EXPIRES                USAGES                   DESCRIPTION   EXTRA GROUPS
abcdef.0123456789abcdef   23h         2026-01-01T23:00:01Z   authentication,signing   <none>        <none>
ghijkl.0123456789abcdef   <forever>   <never>                <none>                   mine          <none>
";
        assert_eq!(text, expected);
    }
}
