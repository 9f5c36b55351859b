//! From a container's spec, its image and its environment to what the runtime is asked for. Pure.

pub mod resources;
mod security;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::env::expand;
use crate::plan::spec_hash;
use crate::seams::{ContainerSpec, Image, Mount, Seccomp, label};

use resources::Bounds;
pub use security::{SecurityError, seccomp_profile};

/// All that one instance is made of.
pub struct Ingredients<'a> {
    pub pod: &'a Pod,
    pub spec: &'a PodSpec,
    pub container: &'a Container,
    pub attempt: u32,
    pub sandbox: &'a str,
    pub image: &'a Image,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub log_path: PathBuf,
    pub seccomp: Option<Seccomp>,
    pub processes_of: Option<String>,
    pub bounds: &'a Bounds,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("no command specified")]
    NoCommand,
    #[error(transparent)]
    Security(#[from] SecurityError),
}

pub fn spec(ingredients: Ingredients<'_>) -> Result<ContainerSpec, ConfigError> {
    let Ingredients { pod, spec, container, attempt, sandbox, image, env, mounts, log_path, .. } = ingredients;
    let args = args(container, image, &env);
    if args.is_empty() {
        return Err(ConfigError::NoCommand);
    }
    let mut labels = pod_labels(pod);
    for (key, value) in [
        (label::CONTAINER_NAME, container.name.clone()),
        (label::ATTEMPT, attempt.to_string()),
        (label::SPEC_HASH, spec_hash(container)),
        (label::IMAGE, container.image.clone().unwrap_or_default()),
        (label::IMAGE_ID, image.id.clone()),
        (label::STOP_SIGNAL, stop_signal(container, image).unwrap_or_default()),
    ] {
        labels.insert(key.to_owned(), value);
    }
    let working_dir = container.working_dir.clone().filter(|dir| !dir.is_empty());
    Ok(ContainerSpec {
        id: identifier(&[sandbox, &container.name, &attempt.to_string()]),
        name: container.name.clone(),
        attempt,
        image: container.image.clone().unwrap_or_default(),
        labels,
        layers: image.layers.clone(),
        args,
        env,
        working_dir: working_dir.unwrap_or_else(|| image.working_dir.clone()),
        mounts,
        tty: container.tty == Some(true),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        log_path,
        security: security::security(spec, container, image, ingredients.seccomp)?,
        resources: resources::of_container(spec, container, ingredients.bounds),
        processes_of: ingredients.processes_of,
    })
}

/// `command` replaces the image's entrypoint and, with it, the image's arguments.
fn args(container: &Container, image: &Image, env: &[(String, String)]) -> Vec<String> {
    let lookup = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let expanded =
        |list: &Option<Vec<String>>| list.iter().flatten().map(|arg| expand(arg, lookup)).collect::<Vec<_>>();
    command_line(expanded(&container.command), expanded(&container.args), image)
}

/// What is run of an image, in the place of whose entrypoint or arguments others may be asked for.
pub fn command_line(command: Vec<String>, args: Vec<String>, image: &Image) -> Vec<String> {
    match (command.is_empty(), args.is_empty()) {
        (false, _) => [command, args].concat(),
        (true, false) => [image.entrypoint.clone(), args].concat(),
        (true, true) => [image.entrypoint.clone(), image.cmd.clone()].concat(),
    }
}

fn stop_signal(container: &Container, image: &Image) -> Option<String> {
    let own = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone());
    own.or_else(|| image.stop_signal.clone())
}

pub fn pod_labels(pod: &Pod) -> BTreeMap<String, String> {
    let meta = &pod.metadata;
    [(label::POD_NAME, &meta.name), (label::POD_NAMESPACE, &meta.namespace), (label::POD_UID, &meta.uid)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.clone().unwrap_or_default()))
        .collect()
}

/// A short identifier for the runtime from what makes its subject unique; labels carry the readable names.
pub fn identifier(parts: &[&str]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(32);
    for seed in [0xcbf2_9ce4_8422_2325_u64, 0x9e37_79b9_7f4a_7c15] {
        let mut hash = seed;
        for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{hash:016x}");
    }
    text
}

/// The number of a signal by the name images and specs use: `SIGQUIT`, `QUIT` or `3`.
pub fn signal_number(name: &str) -> Option<i32> {
    const NAMES: [(&str, i32); 31] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ILL", 4),
        ("TRAP", 5),
        ("ABRT", 6),
        ("BUS", 7),
        ("FPE", 8),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("STKFLT", 16),
        ("CHLD", 17),
        ("CONT", 18),
        ("STOP", 19),
        ("TSTP", 20),
        ("TTIN", 21),
        ("TTOU", 22),
        ("URG", 23),
        ("XCPU", 24),
        ("XFSZ", 25),
        ("VTALRM", 26),
        ("PROF", 27),
        ("WINCH", 28),
        ("IO", 29),
        ("PWR", 30),
        ("SYS", 31),
    ];
    let upper = name.trim().to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(number) = short.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    if let Some(offset) = short.strip_prefix("RTMIN+") {
        return offset.parse::<i32>().ok().filter(|offset| (0..=30).contains(offset)).map(|offset| 34 + offset);
    }
    NAMES.iter().find(|(known, _)| *known == short).map(|(_, number)| *number)
}
