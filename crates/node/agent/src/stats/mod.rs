//! What the node, its pods and their containers use: read when somebody asks, never on a timer.
//!
//! ```text
//!  GET /metrics/resource ─▶ one reading of the cgroups ─▶ counters (resource.rs)
//!  GET /stats/summary ────▶ one reading, and an earlier one (window.rs) ─▶ counters and rates (summary.rs)
//! ```
//! A rate needs two readings. Who asks again and again is told the rate since an earlier question; who asks for the first
//! time waits a second.

mod host;
mod resource;
mod sample;
mod summary;
mod window;

use jiff::SignedDuration;
use tokio::sync::Mutex;

use crate::pods::Machine;
use crate::seams::{SeamError, Walk};

pub(crate) use host::{file_system, interfaces};
pub(crate) use sample::{NodeSample, PodSample, Sample};
use window::{Basis, Window};

/// The readings that rates are told by.
#[derive(Default)]
pub struct Stats(Mutex<Window>);

/// What `/stats/summary` answers.
pub struct Summary {
    pub json: serde_json::Value,
    /// What the rates are an average of.
    pub window: SignedDuration,
}

impl Stats {
    /// `disk`: with what containers have written, and networks.
    pub async fn summary(&self, machine: &Machine, disk: bool) -> Result<Summary, SeamError> {
        // Held while the first waits: who comes meanwhile finds its reading.
        let mut window = self.0.lock().await;
        let basis = loop {
            match window.basis(machine.clock.now()) {
                Basis::Since(counters) => break counters,
                Basis::In(wait) => tokio::time::sleep(wait.unsigned_abs()).await,
                Basis::Nothing => window.note(&Sample::take(machine, Walk::Nothing).await?),
            }
        };
        let walk = if disk { Walk::Everything } else { Walk::Nothing };
        let sample = Sample::take(machine, walk).await?;
        window.note(&sample);
        drop(window);
        let json = summary::summary(&machine.config.node_name, &sample, &basis, disk);
        Ok(Summary { json, window: sample.at.duration_since(basis.at) })
    }

    /// What `/metrics/resource` answers: text in Prometheus' format.
    pub async fn resource(machine: &Machine) -> String {
        let sample = Sample::take(machine, Walk::Nothing).await;
        if let Err(error) = &sample {
            tracing::warn!(error = crate::seams::chain(error), "what pods use cannot be read");
        }
        resource::text(sample.ok().as_ref())
    }
}
