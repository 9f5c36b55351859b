//! Logins by what they are for: a registry, or the images of one whose names begin alike.

use std::collections::BTreeMap;

use base64::Engine;
use node_images::Name;
use serde::Deserialize;

use crate::seams::Credentials;

const DOCKER_HUB: &str = "index.docker.io";

#[derive(Clone, Debug, Default)]
pub(crate) struct Keyring(BTreeMap<String, Vec<Credentials>>);

#[derive(Deserialize)]
struct Entry {
    username: Option<String>,
    password: Option<String>,
    /// Base64 of `username:password`.
    auth: Option<String>,
}

impl Keyring {
    /// `place` is `registry.example:5000/team`, with a scheme or without; `*` and `?` stand for text in one part of the
    /// host's name.
    pub(crate) fn add(&mut self, place: &str, login: Credentials) {
        let bare = place.strip_prefix("https://").or_else(|| place.strip_prefix("http://")).unwrap_or(place);
        let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
        // The version of the registry's protocol is no part of an image's name.
        let path = match path.split_once('/').unwrap_or((path, "")) {
            ("v1" | "v2", rest) => rest,
            _ => path,
        };
        let key = if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") };
        self.0.entry(key).or_default().push(login);
    }

    /// A Secret's `.dockerconfigjson` or `.dockercfg`. What is no login in it is passed over.
    pub(crate) fn add_docker_config(&mut self, config: &[u8]) {
        let Ok(mut config) = serde_json::from_slice::<serde_json::Value>(config) else { return };
        let logins = match config.get_mut("auths") {
            Some(auths) => auths.take(),
            None => config,
        };
        let serde_json::Value::Object(logins) = logins else { return };
        for (place, login) in logins {
            if let Some(login) = serde_json::from_value(login).ok().and_then(Entry::login) {
                self.add(&place, login);
            }
        }
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        for (place, logins) in &other.0 {
            self.0.entry(place.clone()).or_default().extend(logins.iter().cloned());
        }
    }

    /// The more particular first, as upstream sorts them.
    pub(crate) fn logins(&self, image: &Name) -> Vec<Credentials> {
        let places = self.0.iter().rev().filter(|(place, _)| matches(place, image));
        let found: Vec<_> = places.flat_map(|(_, logins)| logins.iter().cloned()).collect();
        match self.0.get(DOCKER_HUB) {
            Some(logins) if found.is_empty() && image.registry() == "docker.io" => logins.clone(),
            _ => found,
        }
    }
}

impl Entry {
    fn login(self) -> Option<Credentials> {
        if let (Some(username), Some(password)) = (self.username, self.password) {
            return Some(Credentials { username, password });
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(self.auth?).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (username, password) = decoded.split_once(':')?;
        Some(Credentials { username: username.into(), password: password.into() })
    }
}

/// Whether an image is among those that `place` names.
pub(super) fn matches(place: &str, image: &Name) -> bool {
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let port = |host: &str| host.rsplit_once(':').map(|(_, port)| port.to_owned());
    let parts = |host: &str| -> Vec<String> {
        host.rsplit_once(':').map_or(host, |(name, _)| name).split('.').map(str::to_owned).collect()
    };
    let (wanted, given) = (parts(host), parts(image.registry()));
    port(host) == port(image.registry())
        && wanted.len() == given.len()
        && image.repository().starts_with(path)
        && wanted.iter().zip(&given).all(|(pattern, part)| glob(pattern.as_bytes(), part.as_bytes()))
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|taken| glob(rest, &text[taken..])),
        (Some((b'?', rest)), Some((_, text))) => glob(rest, text),
        (Some((pattern, rest)), Some((byte, text))) => pattern == byte && glob(rest, text),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn users(keyring: &Keyring, image: &str) -> Vec<String> {
        keyring.logins(&Name::parse(image).unwrap()).into_iter().map(|login| login.username).collect()
    }

    #[test]
    fn secrets_have_the_logins_of_their_registries() {
        let mut keyring = Keyring::default();
        keyring.add_docker_config(
            br#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"reg.test:5000":{"username":"a","password":"b"}}}"#,
        );
        assert_eq!(users(&keyring, "nginx"), ["u"]);
        assert_eq!(users(&keyring, "library/nginx"), ["u"]);
        assert_eq!(users(&keyring, "reg.test:5000/x/y:1"), ["a"]);
        assert_eq!(users(&keyring, "other.test/x"), [""; 0]);
        let mut bad = Keyring::default();
        for config in [&b"not json"[..], br#"{"auths":{"docker.io":{"auth":"!!"}}}"#, br#"{"auths":[]}"#, b"7"] {
            bad.add_docker_config(config);
        }
        assert_eq!(users(&bad, "nginx"), [""; 0]);
    }

    #[test]
    fn the_more_particular_login_comes_first() {
        let mut keyring = Keyring::default();
        for place in
            ["quay.test", "https://quay.test/v2/team", "*.cloud.test", "quay.test/other", "a?.b.test:443/v2ray"]
        {
            keyring.add(place, Credentials { username: place.to_owned(), password: String::new() });
        }
        assert_eq!(users(&keyring, "quay.test/team/web:1"), ["https://quay.test/v2/team", "quay.test"]);
        assert_eq!(users(&keyring, "quay.test/web"), ["quay.test"]);
        assert_eq!(users(&keyring, "eu.cloud.test/web"), ["*.cloud.test"]);
        assert_eq!(users(&keyring, "a.eu.cloud.test/web"), [""; 0]);
        assert_eq!(users(&keyring, "eu.cloud.test:5000/web"), [""; 0]);
        assert_eq!(users(&keyring, "ax.b.test:443/v2ray/x"), ["a?.b.test:443/v2ray"]);
        assert_eq!(users(&keyring, "ax.b.test:443/x"), [""; 0]);
    }
}
