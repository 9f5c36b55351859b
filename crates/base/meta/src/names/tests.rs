use super::*;

#[test]
fn good_names_have_no_problems() {
    for name in ["a", "my-nginx", "0", "a.b-c.d", "123-abc"] {
        assert_eq!(dns1123_subdomain(name), Vec::<String>::new(), "{name}");
    }
    assert!(dns1123_label("my-nginx").is_empty());
    assert!(dns1035_label("my-nginx").is_empty());
    assert!(dns1123_subdomain_with_underscore("_sip.a_b.example").is_empty());
    assert!(wildcard_dns1123_subdomain("*.example.com").is_empty());
    for key in ["app", "app.kubernetes.io/name", "A_b.C"] {
        assert!(label_key(key).is_empty(), "{key}");
    }
    assert!(label_value("").is_empty());
    assert!(port_name("http-80").is_empty());
    assert!(config_map_key("nginx.conf").is_empty());
    assert!(relaxed_env_var_name("0 strange name").is_empty());
    assert!(percent("25%").is_empty());
}

#[test]
fn bad_names_say_what_upstream_says() {
    assert_eq!(
        dns1123_subdomain("My_Nginx"),
        ["a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"]
    );
    assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
    assert_eq!(
        dns1123_label("-a"),
        ["a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
             end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"]
    );
    assert_eq!(dns1123_label(&"a".repeat(64)), ["must be no more than 63 characters"]);
    assert_eq!(dns1035_label("1a").len(), 1);
    assert_eq!(label_key("/a"), ["prefix part must be non-empty"]);
    assert_eq!(label_key("a/b/c").len(), 1);
    assert_eq!(label_key("").len(), 2);
    assert_eq!(label_value(&"a".repeat(64)), ["must be no more than 63 bytes"]);
    assert_eq!(port_name("").len(), 2);
    assert_eq!(port_name("-80--").len(), 3);
    assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
    assert_eq!(config_map_key(".."), ["must not be '..'"]);
    assert_eq!(config_map_key("a/b").len(), 1);
    assert_eq!(env_var_name("1A").len(), 1);
    assert_eq!(relaxed_env_var_name("A=B").len(), 1);
    assert_eq!(relaxed_env_var_name("naïve").len(), 1);
    assert_eq!(c_identifier("9a").len(), 1);
    assert_eq!(http_header_name("X Header").len(), 1);
    assert_eq!(wildcard_dns1123_subdomain("*").len(), 1);
}
