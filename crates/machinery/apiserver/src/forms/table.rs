//! `meta.k8s.io/v1 Table`: the columns of `kubectl get`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base_meta::Status;
use bytes::{BufMut, BytesMut};
use machinery_registry::resource::List;
use machinery_registry::{Resource, ResourceDef};
use machinery_storage::{Object, Revision};

use super::{write_list_head, write_metadata};
use crate::query::Query;

/// How much of each row's object comes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    pub(crate) fn parse(query: &Query<'_>) -> Result<Self, Status> {
        match query.text("includeObject") {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(Status::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        }
    }
}

/// Cells tell ages in seconds, so a row made within the last second is still right.
const FRESH: Duration = Duration::from_secs(1);

/// The cells of one object version, kept with it: one watch event or list is formatted once for all who ask.
#[derive(Default)]
struct Cells(Mutex<Option<(Instant, Arc<[u8]>)>>);

fn cells(resource: &dyn Resource, object: &Object) -> Result<Arc<[u8]>, Status> {
    let kept = object.form("table cells", Cells::default);
    let now = Instant::now();
    if let Some((made, cells)) = &*kept.0.lock().unwrap_or_else(PoisonError::into_inner)
        && now.duration_since(*made) < FRESH
    {
        return Ok(cells.clone());
    }
    let cells: Arc<[u8]> = serde_json::to_vec(&resource.row(object)?).map_err(Status::internal)?.into();
    *kept.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, cells.clone()));
    Ok(cells)
}

fn write_columns(out: &mut BytesMut, def: &ResourceDef) {
    let columns: Vec<_> = def
        .columns
        .iter()
        .map(|column| {
            serde_json::json!({
                "name": column.name,
                "type": column.kind,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            })
        })
        .collect();
    out.put_slice(serde_json::Value::from(columns).to_string().as_bytes());
}

fn write_row(out: &mut BytesMut, resource: &dyn Resource, include: Include, object: &Object) -> Result<(), Status> {
    out.put_slice(b"{\"cells\":");
    out.put_slice(&cells(resource, object)?);
    out.put_slice(b",\"object\":");
    match include {
        Include::None => out.put_slice(b"null"),
        Include::Metadata => write_metadata(out, object)?,
        Include::Object => object.write_json(out),
    }
    out.put_u8(b'}');
    Ok(())
}

pub(crate) fn list(resource: &dyn Resource, include: Include, list: &List) -> Result<BytesMut, Status> {
    let mut out = BytesMut::with_capacity(list.items.len() * 768 + 2048);
    write_list_head(&mut out, "Table", "meta.k8s.io/v1", list);
    out.put_slice(b"\"columnDefinitions\":");
    write_columns(&mut out, resource.def());
    out.put_slice(b",\"rows\":[");
    for (index, item) in list.items.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        write_row(&mut out, resource, include, item)?;
    }
    out.put_slice(b"]}");
    Ok(out)
}

/// A table of one row, or of none (a bookmark). In a watch only the first event has the columns.
pub(crate) fn write_single(
    out: &mut BytesMut,
    resource: &dyn Resource,
    include: Include,
    columns: bool,
    revision: Revision,
    object: Option<&Object>,
) -> Result<(), Status> {
    out.put_slice(
        format!(r#"{{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{{"resourceVersion":"{revision}"}},"#)
            .as_bytes(),
    );
    out.put_slice(b"\"columnDefinitions\":");
    if columns {
        write_columns(out, resource.def());
    } else {
        out.put_slice(b"null");
    }
    out.put_slice(b",\"rows\":[");
    if let Some(object) = object {
        write_row(out, resource, include, object)?;
    }
    out.put_slice(b"]}");
    Ok(())
}
