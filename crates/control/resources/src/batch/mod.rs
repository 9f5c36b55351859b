//! `batch/v1`.

pub(crate) mod cron_job;
pub(crate) mod job;

use std::sync::Arc;

use machinery_registry::Resource;

use crate::{Error, Load};

pub(crate) async fn load(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    Ok(vec![load.erased("cronjobs", cron_job::CronJobStrategy).await?, load.erased("jobs", job::JobStrategy).await?])
}
