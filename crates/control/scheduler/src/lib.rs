//! The scheduler: gives each pending pod a node.
//!
//! ```text
//! pending pod ─▶ filter (which nodes can hold it, and why not the others) ─▶ score ─▶ reserve ─▶ bind
//!                  └─ volumes: where its claims let it                                  └─ its claims first
//! ```
//! `facts`, `filter`, `score`, `volumes` and `volume_limits` are pure; `bind` is the loop that reads the informers and writes through the API.
//! May depend on `machinery/client` and `base`; never on another component.

mod bind;
mod facts;
mod filter;
mod score;
mod volume_limits;
mod volumes;

pub use bind::start;
