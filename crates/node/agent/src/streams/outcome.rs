//! How a remote command ended, as the `Status` on the error channel.

use serde_json::{Value, json};

use crate::seams::{SeamError, chain};

/// What is written on the error channel: a Status, or for older protocols the message of one that is no success.
pub(super) fn told(as_status: bool, result: &Result<i32, SeamError>) -> Vec<u8> {
    let status = status(result);
    match as_status {
        true => status.to_string().into(),
        false => status["message"].as_str().unwrap_or_default().into(),
    }
}

fn status(result: &Result<i32, SeamError>) -> Value {
    match result {
        Ok(0) => json!({ "metadata": {}, "status": "Success" }),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit code {code}"),
            "reason": "NonZeroExitCode",
            "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
        }),
        Err(error) => {
            let message = chain(error);
            json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {message}"),
                "reason": "InternalError",
                "details": { "causes": [{ "message": message }] },
                "code": 500,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_protocols_are_told_of_failures_in_words() {
        let text = |as_status, result| String::from_utf8(told(as_status, &result)).unwrap();
        assert_eq!(text(false, Ok(0)), "");
        assert_eq!(text(false, Ok(7)), "command terminated with non-zero exit code: exit code 7");
        assert_eq!(text(true, Ok(0)), r#"{"metadata":{},"status":"Success"}"#);
        let failed = SeamError::new("exec in container", "c", "no such file");
        assert_eq!(text(false, Err(failed)), "Internal error occurred: exec in container c: no such file");
    }
}
