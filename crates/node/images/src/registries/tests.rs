use super::*;
use crate::name::Name;

fn parse(text: &str) -> Result<Registries, RegistriesError> {
    parse::parse(Path::new("registries.yaml"), text)
}

fn urls(registries: &Registries, name: &str) -> Vec<String> {
    let name = Name::parse(name).unwrap();
    let url = |endpoint: Endpoint| {
        let scheme = if endpoint.plain_http { "http" } else { "https" };
        format!("{scheme}://{}/{}", endpoint.host, endpoint.repository)
    };
    registries.endpoints(&name).into_iter().map(url).collect()
}

#[test]
fn an_absent_file_means_every_registry_by_its_own_name() {
    let directory = tempfile::tempdir().unwrap();
    let registries = Registries::load(&directory.path().join("registries.yaml")).unwrap();
    assert_eq!(urls(&registries, "nginx"), ["https://registry-1.docker.io/library/nginx"]);
    assert_eq!(urls(&registries, "quay.io/a/b"), ["https://quay.io/a/b"]);
    assert_eq!(urls(&registries, "localhost:5000/a"), ["http://localhost:5000/a"]);
    assert_eq!(urls(&registries, "127.0.0.1:5000/a"), ["http://127.0.0.1:5000/a"]);
}

#[test]
fn mirrors_come_first_and_rewrite_names() {
    let registries = parse(
        r#"
mirrors:
  docker.io:
    endpoint: ["http://mirror.local:5000", "https://harbor.local/v2/proxy"]
    rewrite:
      "^library/(.*)": "hub/$1"
  quay.io:
    endpoint: ["https://quay.io"]
  "*":
    endpoint: [catch-all.local]
"#,
    )
    .unwrap();
    assert_eq!(
        urls(&registries, "nginx"),
        [
            "http://mirror.local:5000/hub/nginx",
            "https://harbor.local/proxy/hub/nginx",
            "https://registry-1.docker.io/library/nginx"
        ]
    );
    assert_eq!(urls(&registries, "bitnami/nginx")[0], "http://mirror.local:5000/bitnami/nginx");
    assert_eq!(urls(&registries, "quay.io/a"), ["https://quay.io/a"]);
    assert_eq!(urls(&registries, "ghcr.io/a"), ["https://catch-all.local/a", "https://ghcr.io/a"]);
}

#[test]
fn settings_belong_to_the_endpoint() {
    let registries = parse(
        r#"
mirrors:
  docker.io:
    endpoint: ["http://mirror.local:5000"]
configs:
  mirror.local:5000:
    auth: {username: me, password: secret}
  docker.io:
    auth: {auth: eW91OnB3}
    tls: {insecure_skip_verify: true}
"#,
    )
    .unwrap();
    let endpoints = registries.endpoints(&Name::parse("nginx").unwrap());
    assert_eq!(endpoints[0].auth, Some(Auth::Basic { username: "me".into(), password: "secret".into() }));
    assert_eq!(endpoints[0].mirror_of.as_deref(), Some("docker.io"));
    assert_eq!(endpoints[1].auth, Some(Auth::Basic { username: "you".into(), password: "pw".into() }));
    assert!(endpoints[1].tls.skip_verify);
    assert!(!format!("{endpoints:?}").contains("secret"));
}

#[test]
fn empty_documents_are_the_default() {
    for text in ["", "# nothing\n", "mirrors:\nconfigs:\n", "mirrors:\n  docker.io:\n"] {
        assert_eq!(urls(&parse(text).unwrap(), "nginx").len(), 1, "{text:?}");
    }
}

#[test]
fn mistakes_name_their_field() {
    let chain = |error: RegistriesError| {
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {source}")
    };
    for (text, expected) in [
        ("mirrors: {docker.io: {endpont: []}}", "endpont"),
        ("mirrors: {docker.io: {endpoint: 3}}", "mirrors.docker.io.endpoint"),
        ("mirrors: {docker.io: {endpoint: ['ftp://x']}}", "mirrors.docker.io.endpoint[0]: scheme \"ftp\""),
        ("mirrors: {docker.io: {endpoint: ['http://']}}", "mirrors.docker.io.endpoint[0]"),
        ("mirrors: {docker.io: {endpoint: ['http://x/y']}}", "does not begin with /v2"),
        ("mirrors: {docker.io: {rewrite: {'(': x}}}", "mirrors.docker.io.rewrite"),
        ("configs: {x: {tls: {ca_file: /nonexistent/ca}}}", "configs.x.tls.ca_file: read /nonexistent/ca"),
        ("configs: {x: {tls: {cert_file: a}}}", "configs.x.tls.cert_file: client certificates are not supported"),
        ("configs: {x: {auth: {auth: '%'}}}", "configs.x.auth.auth: not base64"),
        ("configs: {x: {tls: {insecure_skip_verify: 7}}}", "configs.x.tls.insecure_skip_verify"),
        ("mirrors: [", "registries.yaml"),
    ] {
        let message = chain(parse(text).unwrap_err());
        assert!(message.contains(expected), "{text}: {message}");
    }
}
