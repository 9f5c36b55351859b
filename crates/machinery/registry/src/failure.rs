//! What a client is told of a storage failure.

use base_meta::status::Cause;
use base_meta::{Reason, Status};
use machinery_storage::{Error, Revision};

/// Conflicts are the caller's to interpret: here they mean a race that nobody resolved.
pub(crate) fn status(error: Error) -> Status {
    match error {
        Error::Compacted { asked, oldest } => too_old(asked, oldest),
        Error::Future { asked, newest } => {
            let mut status = Status::timeout(format!("Too large resource version: {asked}, current: {newest}"))
                .with_causes(vec![Cause {
                    reason: "ResourceVersionTooLarge".into(),
                    message: "Too large resource version".into(),
                    field: String::new(),
                }]);
            status.details.get_or_insert_default().retry_after_seconds = Some(1);
            status
        }
        Error::Conflict { .. } => Status::new(
            Reason::ServerTimeout,
            "The operation could not be completed because the object kept changing; please try again.",
        ),
        Error::Full { operation } => {
            tracing::error!(operation, "the datastore's disk is full");
            Status::internal("no space left for the datastore")
        }
        Error::Closed => Status::service_unavailable("the server is shutting down"),
        error @ Error::Engine { .. } => {
            tracing::error!(error = &error as &dyn std::error::Error, "storage failed");
            Status::internal("the datastore failed")
        }
    }
}

fn too_old(asked: Revision, oldest: Revision) -> Status {
    Status::expired(format!("too old resource version: {asked} ({oldest})"))
}
