//! Probes and lifecycle hooks.

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, SleepAction, TCPSocketAction,
};

use super::formats::{self, NOT_NEGATIVE};
use super::{Errors, said};

/// The probes and hooks of a container that runs beside others (regular, or an init container that is a sidecar).
pub(super) fn probes_and_hooks(container: &Container, path: &Path, grace_seconds: Option<i64>, errors: &mut Errors) {
    if let Some(lifecycle) = &container.lifecycle {
        let path = path.child("lifecycle");
        for (name, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            if let Some(hook) = hook {
                Handler::of_hook(hook).check(&path.child(name), grace_seconds, errors);
            }
        }
    }
    let must_be_one = |probe: &Probe, path: &Path, errors: &mut Errors| {
        let threshold = probe.success_threshold.unwrap_or(0);
        if threshold != 1 {
            errors.push(Error::invalid(&path.child("successThreshold"), threshold, "must be 1"));
        }
    };
    if let Some(liveness) = &container.liveness_probe {
        let path = path.child("livenessProbe");
        probe(liveness, &path, errors);
        must_be_one(liveness, &path, errors);
    }
    if let Some(readiness) = &container.readiness_probe {
        let path = path.child("readinessProbe");
        probe(readiness, &path, errors);
        if let Some(seconds) = readiness.termination_grace_period_seconds {
            errors.push(Error::invalid(
                &path.child("terminationGracePeriodSeconds"),
                seconds,
                "must not be set for readinessProbes",
            ));
        }
    }
    if let Some(startup) = &container.startup_probe {
        let path = path.child("startupProbe");
        probe(startup, &path, errors);
        must_be_one(startup, &path, errors);
    }
}

fn probe(probe: &Probe, path: &Path, errors: &mut Errors) {
    Handler::of_probe(probe).check(path, None, errors);
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (name, number) in numbers {
        if let Some(number) = number.filter(|number| *number < 0) {
            errors.push(Error::invalid(&path.child(name), number, NOT_NEGATIVE));
        }
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|seconds| *seconds <= 0) {
        errors.push(Error::invalid(&path.child("terminationGracePeriodSeconds"), seconds, "must be greater than 0"));
    }
}

/// What a probe or a hook does: exactly one of these.
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

impl<'a> Handler<'a> {
    fn of_probe(probe: &'a Probe) -> Self {
        Self {
            exec: probe.exec.as_ref(),
            http_get: probe.http_get.as_ref(),
            tcp_socket: probe.tcp_socket.as_ref(),
            grpc: probe.grpc.as_ref(),
            sleep: None,
        }
    }

    fn of_hook(hook: &'a LifecycleHandler) -> Self {
        Self {
            exec: hook.exec.as_ref(),
            http_get: hook.http_get.as_ref(),
            tcp_socket: hook.tcp_socket.as_ref(),
            grpc: None,
            sleep: hook.sleep.as_ref(),
        }
    }

    fn check(&self, path: &Path, grace_seconds: Option<i64>, errors: &mut Errors) {
        let mut taken = false;
        let mut first = |name: &str, errors: &mut Errors| {
            let free = !std::mem::replace(&mut taken, true);
            if !free {
                errors.push(Error::forbidden(&path.child(name), "may not specify more than 1 handler type"));
            }
            free
        };
        if let Some(exec) = self.exec
            && first("exec", errors)
            && exec.command.as_ref().is_none_or(Vec::is_empty)
        {
            errors.push(Error::required(&path.child("exec").child("command"), ""));
        }
        if let Some(get) = self.http_get
            && first("httpGet", errors)
        {
            http_get(get, &path.child("httpGet"), errors);
        }
        if let Some(socket) = self.tcp_socket
            && first("tcpSocket", errors)
        {
            formats::port_number_or_name(&socket.port, &path.child("tcpSocket").child("port"), errors);
        }
        if let Some(grpc) = self.grpc
            && first("grpc", errors)
        {
            formats::port_number(grpc.port, &path.child("grpc").child("port"), errors);
        }
        if let Some(sleep) = self.sleep
            && first("sleep", errors)
        {
            let grace = grace_seconds.unwrap_or(30);
            if sleep.seconds < 0 || sleep.seconds > grace {
                errors.push(Error::invalid(
                    &path.child("sleep"),
                    sleep.seconds,
                    format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})"),
                ));
            }
        }
        if !taken {
            errors.push(Error::required(path, "must specify a handler type"));
        }
    }
}

fn http_get(get: &HTTPGetAction, path: &Path, errors: &mut Errors) {
    if said(&get.path).is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    }
    formats::port_number_or_name(&get.port, &path.child("port"), errors);
    let scheme = said(&get.scheme);
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.push(Error::not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]));
    }
    for header in get.http_headers.iter().flatten() {
        formats::invalid(&path.child("httpHeaders"), &header.name, names::http_header_name(&header.name), errors);
    }
}
