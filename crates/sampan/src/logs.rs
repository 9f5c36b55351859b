//! Logs go to standard error; `-v` raises the level.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// `verbose`: 0 is info, 1 debug, 2 everything, other people's libraries included.
pub fn start(verbose: u8) {
    let filter = match verbose {
        0 => "info,kube=warn,hyper=warn,hickory=warn,libcontainer=warn",
        1 => "debug,hyper=info,h2=info,kube=info,tower=info,hickory=info,rustls=info,libcontainer=info",
        _ => "trace",
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
