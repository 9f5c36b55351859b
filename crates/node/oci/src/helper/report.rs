//! Telling the shim how it goes.

use std::fmt::{self, Write};
use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::kernel;
use crate::shim::Report;

/// The shim's end of the report socket; copies of it live on in forks until they execute something else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reporter(RawFd);

impl Reporter {
    pub(super) fn inherit(socket: RawFd) -> io::Result<Self> {
        // Never closed on purpose: its end tells the shim that the process has executed its command.
        kernel::inherited(socket).map(|fd| Self(fd.into_raw_fd()))
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        // SAFETY: `inherit` made sure that it is open and gave up closing it.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }

    pub(super) fn started(&self, pid: i32, warnings: Vec<String>, terminal: Option<&OwnedFd>) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let descriptors: Vec<RawFd> = terminal.iter().map(|fd| fd.as_raw_fd()).collect();
        self.send(&Report::Started { pid, warnings }, &descriptors)
    }

    /// `exact`: the very cause; otherwise what libraries logged before is added to it.
    pub(super) fn failed(&self, message: &str, exact: bool) {
        // Without a shim there is nobody to tell.
        let _ = self.send(&Report::Failed { message: message.to_owned(), exact }, &[]);
    }

    fn send(&self, report: &Report, descriptors: &[RawFd]) -> io::Result<()> {
        kernel::send(self.socket(), &serde_json::to_vec(report)?, descriptors).map(drop)
    }

    /// libcontainer's errors lose their causes on the way out of the processes that it forks, but it logs them
    /// where they arise.
    pub(super) fn capture_library_errors(self) {
        // Fails only when there is a subscriber already, and this process has just begun.
        let _ = tracing::subscriber::set_global_default(ErrorTap(self));
    }
}

struct ErrorTap(Reporter);

impl Subscriber for ErrorTap {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = EventText::default();
        event.record(&mut text);
        let _ = self.0.send(&Report::Detail { text: format!("{}{}", text.message, text.fields) }, &[]);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct EventText {
    message: String,
    fields: String,
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Infallible: writing to strings.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, ", {} {value:?}", field.name())
        };
    }
}
