//! Chores of the project that are not the product: generated tables, layer checks, comparison with upstream.

use std::process::ExitCode;

use clap::Parser;

mod bench;
mod images;
mod layers;
mod schema;
mod upstream;
mod zero_drop;

#[derive(Parser)]
#[command(about = "Chores of the project: generated tables and checks")]
enum Command {
    /// Writes the schema table from upstream's schema facts.
    Schema(schema::Options),
    /// Checks that the crates depend on each other as the design says.
    Layers(layers::Options),
    /// Builds container images from Debian's packages, for the demo and the tests.
    Images(images::Options),
    /// Measures every row of the budget table on this machine.
    Bench(bench::Options),
    /// Compares decoding and printing with upstream's fixtures.
    Upstream(upstream::Options),
    /// Changes what answers under clients that keep coming, and fails when one of them notices.
    ZeroDrop(zero_drop::Options),
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Schema(options) => schema::run(&options),
        Command::Layers(options) => layers::run(&options),
        Command::Images(options) => images::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Upstream(options) => upstream::run(&options),
        Command::ZeroDrop(options) => zero_drop::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
