//! The plug-in's side: started by a runtime for one command, with its parameters in the environment, as CNI has it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Command, Question, VERSION};

/// A node that is busy is waited for, one that hangs is not: runtimes have no limit of their own.
const PATIENCE: Duration = Duration::from_secs(60);
/// CNI's code for the failure of a plug-in.
const FAILED: u32 = 100;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    cni_version: String,
    socket: PathBuf,
}

/// Answers, if this process is to be a plug-in; its exit code.
pub fn asked() -> Option<i32> {
    let command = std::env::var("CNI_COMMAND").ok().filter(|_| std::env::args_os().len() == 1)?;
    let (answer, code) = match answer(&command) {
        Ok(answer) => (answer, 0),
        Err(message) => (Some(json!({ "cniVersion": VERSION, "code": FAILED, "msg": message })), 1),
    };
    if let Some(answer) = answer {
        // Whoever asked is gone.
        let _ = writeln!(std::io::stdout(), "{answer}");
    }
    Some(code)
}

fn answer(command: &str) -> Result<Option<Value>, String> {
    let command = match command {
        "VERSION" => {
            let supported = ["0.3.0", "0.3.1", "0.4.0", VERSION];
            return Ok(Some(json!({ "cniVersion": VERSION, "supportedVersions": supported })));
        }
        "ADD" => Command::Add,
        "DEL" => Command::Delete,
        // The node keeps what it has connected in order by itself.
        "CHECK" | "GC" | "STATUS" => return Ok(None),
        other => return Err(format!("unknown CNI_COMMAND {other:?}")),
    };
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| format!("reading the configuration: {error}"))?;
    let config: Config = serde_json::from_str(&text).map_err(|error| format!("parsing the configuration: {error}"))?;
    let parameter = |name: &str| std::env::var(name).unwrap_or_default();
    let (netns, interface) = (parameter("CNI_NETNS"), parameter("CNI_IFNAME"));
    let question = Question {
        command,
        sandbox: parameter("CNI_CONTAINERID"),
        netns: netns.clone().into(),
        pod: pod(&parameter("CNI_ARGS")),
    };
    match (ask(&config, &question), command) {
        (Ok(answer), Command::Add) => Ok(Some(result(&config.cni_version, &answer?, &interface, &netns))),
        (Ok(answer), Command::Delete) => answer.map(|_| None),
        // What a node that does not run has connected it disconnects when it starts, or is uninstalled.
        (Err(error), Command::Delete) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        (Err(error), _) => Err(format!("asking the node at {}: {error}", config.socket.display())),
    }
}

fn ask(config: &Config, question: &Question) -> std::io::Result<Answer> {
    let mut stream = UnixStream::connect(&config.socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{}\n", serde_json::to_string(question)?).as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// Of arguments such as `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web`.
fn pod(arguments: &str) -> [String; 3] {
    ["K8S_POD_NAME", "K8S_POD_NAMESPACE", "K8S_POD_UID"].map(|wanted| {
        let mut pairs = arguments.split(';').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned()).unwrap_or_default()
    })
}

fn result(version: &str, ips: &[std::net::IpAddr], interface: &str, netns: &str) -> Value {
    // Before 1.0 each address says its family.
    let old = version.starts_with("0.");
    let ips = ips.iter().map(|ip| {
        let mut address = json!({ "address": format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 }), "interface": 0 });
        if old {
            address["version"] = json!(if ip.is_ipv4() { "4" } else { "6" });
        }
        address
    });
    json!({
        "cniVersion": if version.is_empty() { VERSION } else { version },
        "interfaces": [{ "name": interface, "sandbox": netns }],
        "ips": ips.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_is_told_by_arguments() {
        assert_eq!(pod("IgnoreUnknown=1;K8S_POD_NAMESPACE=n;K8S_POD_NAME=p;x"), ["p", "n", ""].map(str::to_owned));
        assert_eq!(pod(""), [const { String::new() }; 3]);
    }

    #[test]
    fn results_are_of_the_version_that_was_asked_for() {
        let ips = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let new = result("1.0.0", &ips, "eth0", "/n");
        assert_eq!(
            new["ips"],
            json!([{"address": "10.0.0.1/32", "interface": 0}, {"address": "fd00::1/128", "interface": 0}])
        );
        assert_eq!(new["interfaces"], json!([{"name": "eth0", "sandbox": "/n"}]));
        assert_eq!(result("0.4.0", &ips, "eth0", "/n")["ips"][1]["version"], "6");
    }

    #[test]
    fn a_question_that_nobody_answers_is_an_error() {
        let config = Config { cni_version: VERSION.into(), socket: "/nonexistent/socket".into() };
        let question =
            Question { command: Command::Add, sandbox: "s".into(), netns: "/n".into(), pod: Default::default() };
        assert_eq!(ask(&config, &question).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(answer("NONE").is_err());
        assert_eq!(answer("CHECK"), Ok(None));
    }
}
