//! Brings stored objects to the version that is stored from now on: after a custom kind's definition chose another.

use base_meta::Status;
use machinery_storage::{Error, Expect, Op, Storage};
use serde::Deserialize;
use serde_json::Value;

use crate::codec::bytes;
use crate::view::Conversion;
use crate::{ResourceDef, failure};

/// Objects converted in one call.
const BATCH: usize = 256;

/// Rewrites what is stored of `def`'s kind in another version than `def`'s, and says how many that were. To be run
/// before the kind's core starts: a core decodes the stored version alone. An object that changes meanwhile is left to
/// whoever changed it. Where a conversion fails, those before it stay converted.
pub async fn migrate(storage: &dyn Storage, def: &ResourceDef, conversion: &dyn Conversion) -> Result<usize, Status> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(rename = "apiVersion")]
        api_version: String,
    }
    let wanted = def.gvk.api_version();
    let other = |json: &[u8]| serde_json::from_slice::<Head>(json).is_ok_and(|head| head.api_version != wanted);
    let listing = storage.list(&def.storage_prefix(), None, 0, None).await.map_err(failure::status)?;
    let stale: Vec<_> = listing.entries.into_iter().filter(|entry| other(&entry.value)).collect();
    for batch in stale.chunks(BATCH) {
        let parse = |json: &[u8]| serde_json::from_slice::<Value>(json).map_err(Status::internal);
        let objects = batch.iter().map(|entry| parse(&entry.value)).collect::<Result<Vec<_>, _>>()?;
        let converted = conversion.convert(objects, &def.gvk.group_version()).await?;
        if converted.len() != batch.len() {
            return Err(Status::internal("a conversion answered with another number of objects than it was asked for"));
        }
        for (entry, value) in batch.iter().zip(converted) {
            match storage.write(&entry.key, Expect::At(entry.modified), Op::Put(bytes(&value)?)).await {
                Ok(_) | Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(failure::status(error)),
            }
        }
    }
    Ok(stale.len())
}
