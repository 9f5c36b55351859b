//! Image names as Docker reads them: `nginx` is `docker.io/library/nginx:latest`.

use std::fmt;

use oci_client::Reference;

/// A complete image name: registry, repository and a tag, a digest or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Reference);

/// Text that is no image name. The message is the one that kubelet puts into the `InvalidImageName` event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("couldn't parse image name {name:?}: {reason}")]
pub struct InvalidName {
    pub name: String,
    pub reason: String,
}

impl Name {
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let invalid = |reason: String| InvalidName { name: text.to_owned(), reason };
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(invalid(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (registry, remote) = split_registry(text);
        let repository = &remote[..remote.find([':', '@']).unwrap_or(remote.len())];
        if repository.chars().any(char::is_uppercase) {
            return Err(invalid(format!("invalid reference format: repository name ({repository}) must be lowercase")));
        }
        // The parser would take a registry without dot or port for a repository: give it a dot for the time.
        let dotted = if registry.contains(['.', ':']) { registry.clone() } else { format!("{registry}.local") };
        let parsed: Reference =
            format!("{dotted}/{remote}").parse().map_err(|error: oci_client::ParseError| match error {
                oci_client::ParseError::ReferenceInvalidFormat => invalid("invalid reference format".to_owned()),
                other => invalid(format!("invalid reference format: {other}")),
            })?;
        let repository = parsed.repository().to_owned();
        let parsed = match (parsed.tag().map(str::to_owned), parsed.digest().map(str::to_owned)) {
            (Some(tag), Some(digest)) => Reference::with_tag_and_digest(registry, repository, tag, digest),
            (None, Some(digest)) => Reference::with_digest(registry, repository, digest),
            (tag, None) => Reference::with_tag(registry, repository, tag.unwrap_or_else(|| "latest".to_owned())),
        };
        Ok(Self(parsed))
    }

    /// As written, `docker.io` included.
    pub fn registry(&self) -> &str {
        self.0.registry()
    }

    pub fn repository(&self) -> &str {
        self.0.repository()
    }

    pub fn tag(&self) -> Option<&str> {
        self.0.tag()
    }

    pub fn digest(&self) -> Option<&str> {
        self.0.digest()
    }

    /// `registry/repository@digest`: names content, not a tag.
    pub(crate) fn at(&self, digest: &str) -> String {
        format!("{}/{}@{digest}", self.registry(), self.repository())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The first component is a registry when it looks like a host: it has a dot or a port, is `localhost`, or has capitals
/// (which no repository may have).
fn split_registry(text: &str) -> (String, String) {
    let (registry, remote) = match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase) =>
        {
            (first, rest)
        }
        _ => ("docker.io", text),
    };
    let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
    if registry == "docker.io" && !remote.contains('/') {
        return (registry.to_owned(), format!("library/{remote}"));
    }
    (registry.to_owned(), remote.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

    #[test]
    fn short_names_are_completed() {
        for (text, whole) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("bitnami/nginx", "docker.io/bitnami/nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("localhost/nginx", "localhost/nginx:latest"),
            ("localhost:5000/nginx", "localhost:5000/nginx:latest"),
            ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
            ("Registry/pause:3.10", "Registry/pause:3.10"),
            ("nginx:Tag_1.x", "docker.io/library/nginx:Tag_1.x"),
        ] {
            assert_eq!(Name::parse(text).unwrap().to_string(), whole, "{text}");
        }
    }

    #[test]
    fn digests_stand_in_for_tags() {
        let name = Name::parse(&format!("nginx@{DIGEST}")).unwrap();
        assert_eq!((name.tag(), name.digest()), (None, Some(DIGEST)));
        let name = Name::parse(&format!("nginx:1.27@{DIGEST}")).unwrap();
        assert_eq!((name.tag(), name.digest()), (Some("1.27"), Some(DIGEST)));
        assert_eq!(name.at(DIGEST), format!("docker.io/library/nginx@{DIGEST}"));
    }

    #[test]
    fn bad_names_say_why() {
        for (text, message) in [
            (
                "NGINX",
                "couldn't parse image name \"NGINX\": invalid reference format: repository name (library/NGINX) must be lowercase",
            ),
            (
                "example.com/Foo:x",
                "couldn't parse image name \"example.com/Foo:x\": invalid reference format: repository name (Foo) must be lowercase",
            ),
            ("", "couldn't parse image name \"\": invalid reference format"),
            ("nginx:", "couldn't parse image name \"nginx:\": invalid reference format"),
            ("nginx:a b", "couldn't parse image name \"nginx:a b\": invalid reference format"),
            ("/nginx", "couldn't parse image name \"/nginx\": invalid reference format"),
            ("nginx@sha256:ff", "couldn't parse image name \"nginx@sha256:ff\": invalid reference format"),
            ("../etc", "couldn't parse image name \"../etc\": invalid reference format"),
        ] {
            assert_eq!(Name::parse(text).unwrap_err().to_string(), message, "{text}");
        }
        assert!(Name::parse(&"f".repeat(64)).unwrap_err().to_string().contains("64-byte hexadecimal"));
        assert!(Name::parse(&"a/".repeat(200)).is_err());
    }
}
