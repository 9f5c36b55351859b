//! `flowcontrol.apiserver.k8s.io/v1`.

use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};

use super::{number, pointer};

pub fn flow_schema(schema: &mut FlowSchema) {
    // Go's spec is no pointer: it is always there, and so are its defaults.
    number(&mut schema.spec.get_or_insert_default().matching_precedence, 1000);
}

pub fn priority_level(level: &mut PriorityLevelConfiguration) {
    let Some(spec) = &mut level.spec else { return };
    if let Some(exempt) = &mut spec.exempt {
        pointer(&mut exempt.nominal_concurrency_shares, 0);
        pointer(&mut exempt.lendable_percent, 0);
    }
    let Some(limited) = &mut spec.limited else { return };
    pointer(&mut limited.nominal_concurrency_shares, 30);
    pointer(&mut limited.lendable_percent, 0);
    if let Some(queuing) = limited.limit_response.as_mut().and_then(|response| response.queuing.as_mut()) {
        number(&mut queuing.hand_size, 8);
        number(&mut queuing.queues, 64);
        number(&mut queuing.queue_length_limit, 50);
    }
}
