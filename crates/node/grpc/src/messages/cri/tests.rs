//! Bytes as other implementations write them: the numbers of the fields are the interface.

use prost::Message;

use super::*;

#[test]
fn messages_of_one_field_are_that_field() {
    let id: StopPodSandboxRequest = "abc".into();
    assert_eq!(id.encode_to_vec(), b"\x0a\x03abc");
    assert_eq!(StatusRequest::decode(&b"\x08\x01"[..]), Ok(true));
    assert!(().encode_to_vec().is_empty());
    let network = PodSandboxNetworkStatus { ip: "::1".into(), additional_ips: vec!["::2".into()] };
    assert_eq!(network.encode_to_vec(), b"\x0a\x03::1\x12\x05\x0a\x03::2");
}

#[test]
fn an_optional_number_of_zero_is_told_from_none() {
    let security = |run_as_user| LinuxContainerSecurityContext { run_as_user, ..Default::default() };
    assert_eq!(security(Some(0)).encode_to_vec(), b"\x2a\x00");
    assert!(security(None).encode_to_vec().is_empty());
    assert_eq!(LinuxContainerSecurityContext::decode(&b"\x2a\x02\x08\x07"[..]).unwrap(), security(Some(7)));
}

#[test]
fn what_is_left_out_is_passed_over() {
    // A condition, then a field 15 that is nobody's.
    let condition = RuntimeCondition::decode(&b"\x0a\x0cRuntimeReady\x10\x01\x7a\x01x"[..]).unwrap();
    assert_eq!(condition, RuntimeCondition { kind: RUNTIME_READY.into(), status: true, ..Default::default() });
}

#[test]
fn passwords_are_not_printed() {
    let auth = AuthConfig { username: "me".into(), password: "secret".into(), ..Default::default() };
    assert_eq!(format!("{auth:?}"), r#"AuthConfig { username: "me", .. }"#);
}

#[test]
fn stop_signals_have_the_numbers_of_the_interface() {
    assert_eq!([SIGNALS[10], SIGNALS[23], SIGNALS[65]], ["SIGINT", "SIGTERM", "SIGRTMAX"]);
}
