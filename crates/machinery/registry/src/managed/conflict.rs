//! Fields that an apply would take from others, as the client is told of them.

use std::collections::BTreeMap;

use base_meta::status::Cause;
use base_meta::{Reason, Status};

use super::element::Element;
use super::ledger::{Operation, Writer};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub writer: Writer,
    pub path: Vec<Element>,
}

fn text(path: &[Element]) -> String {
    path.iter().map(ToString::to_string).collect()
}

fn name(writer: &Writer) -> String {
    let mut name = format!("{:?}", writer.manager);
    if !writer.subresource.is_empty() {
        name.push_str(&format!(" with subresource {:?}", writer.subresource));
    }
    if writer.operation == Operation::Update {
        name.push_str(&format!(" using {}", writer.api_version));
    }
    name
}

pub(super) fn status(conflicts: &[Conflict]) -> Status {
    let cause = |conflict: &Conflict| Cause {
        reason: "FieldManagerConflict".into(),
        message: format!("conflict with {}", name(&conflict.writer)),
        field: text(&conflict.path),
    };
    let message = match conflicts {
        [one] => {
            format!("Apply failed with 1 conflict: conflict with {}: {}", name(&one.writer), text(&one.path))
        }
        all => {
            let mut by_writer: BTreeMap<&Writer, Vec<&Conflict>> = BTreeMap::new();
            for conflict in all {
                by_writer.entry(&conflict.writer).or_default().push(conflict);
            }
            let mut lines = Vec::new();
            for (writer, conflicts) in by_writer {
                lines.push(format!("conflicts with {}:", name(writer)));
                lines.extend(conflicts.iter().map(|conflict| format!("- {}", text(&conflict.path))));
            }
            format!("Apply failed with {} conflicts: {}", all.len(), lines.join("\n"))
        }
    };
    Status::new(Reason::Conflict, message).with_causes(conflicts.iter().map(cause).collect())
}
