//! What ADD answers. Pure.

use std::net::IpAddr;

use serde_json::Value;

use crate::INTERFACE;

#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error("its answer is not JSON")]
    Json(#[source] serde_json::Error),
    #[error("{field} of its answer {problem}")]
    Field { field: String, problem: String },
    #[error("its answer gives {INTERFACE} no address")]
    NoAddress,
}

fn wrong(field: impl Into<String>, problem: impl Into<String>) -> AnswerError {
    AnswerError::Field { field: field.into(), problem: problem.into() }
}

/// An answer in itself: the next plug-in of the chain, CHECK and DEL are told it as it is.
pub(crate) fn parse(text: &[u8]) -> Result<Value, AnswerError> {
    let answer: Value = serde_json::from_slice(text).map_err(AnswerError::Json)?;
    if answer.is_object() { Ok(answer) } else { Err(wrong("the whole", "must be an object")) }
}

/// The pod's addresses in a chain's last answer: at most one of each family, those of the family of `preferred` first.
pub fn addresses(answer: &Value, preferred: IpAddr) -> Result<Vec<IpAddr>, AnswerError> {
    let list = |field: &str| match answer.get(field) {
        None | Some(Value::Null) => Ok(&[][..]),
        Some(Value::Array(list)) => Ok(&list[..]),
        Some(_) => Err(wrong(field, "must be a list")),
    };
    let (interfaces, mut found) = (list("interfaces")?, Vec::<IpAddr>::new());
    for (number, ip) in list("ips")?.iter().enumerate() {
        let field = |name: &str| format!("ips[{number}].{name}");
        match ip.get("interface") {
            None | Some(Value::Null) => {}
            Some(index) => {
                let interface = index.as_u64().and_then(|index| interfaces.get(usize::try_from(index).ok()?));
                let interface = interface.ok_or_else(|| wrong(field("interface"), "is not one of its interfaces"))?;
                let of = |name: &str| interface.get(name).and_then(Value::as_str).unwrap_or_default();
                // Of the host's own links, or of another one of the pod's.
                if of("sandbox").is_empty() || of("name") != INTERFACE {
                    continue;
                }
            }
        }
        let text = ip.get("address").and_then(Value::as_str).ok_or_else(|| wrong(field("address"), "is required"))?;
        let address = address(text)
            .ok_or_else(|| wrong(field("address"), format!("is {text:?}, no pod's address and prefix")))?;
        if found.iter().all(|other| other.is_ipv4() != address.is_ipv4()) {
            found.push(address);
        }
    }
    found.sort_by_key(|address| address.is_ipv4() != preferred.is_ipv4());
    if found.is_empty() { Err(AnswerError::NoAddress) } else { Ok(found) }
}

fn address(text: &str) -> Option<IpAddr> {
    let (address, prefix) = text.split_once('/')?;
    let (address, prefix) = (address.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?);
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let fit = !address.is_unspecified() && !address.is_loopback() && !address.is_multicast();
    (fit && prefix <= longest).then_some(address)
}
