//! The audit log: JSON lines in a file that is renamed when it has grown, with so many older ones kept.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::Sink;

/// Lines that may wait for the disk; more are dropped, and counted in the log of the process.
const WAITING: usize = 4096;

#[derive(Debug, thiserror::Error)]
#[error("audit log: {doing} {path}")]
pub struct LogError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// When a file is put aside, and how many such are kept.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    pub bytes: u64,
    /// `log.1` is the newest. 0: nothing is kept.
    pub backups: usize,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { bytes: 100 << 20, backups: 10 }
    }
}

/// Written by a thread of its own: a slow disk does not hold up requests.
pub struct LogFile {
    lines: Mutex<Option<SyncSender<Vec<u8>>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl LogFile {
    /// Appends to what is there.
    pub fn open(path: &Path, rotation: Rotation) -> Result<Arc<Self>, LogError> {
        let mut output = Output::open(path.to_owned(), rotation)?;
        let (lines, waiting) = sync_channel(WAITING);
        let writer = std::thread::Builder::new()
            .name("audit-log".into())
            .spawn(move || output.run(&waiting))
            .map_err(|source| LogError { doing: "starting the writer of", path: path.to_owned(), source })?;
        Ok(Arc::new(Self { lines: Mutex::new(Some(lines)), writer: Mutex::new(Some(writer)) }))
    }
}

impl Sink for LogFile {
    fn write(&self, line: Vec<u8>) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(TrySendError::Full(_))) = lines.as_ref().map(|lines| lines.try_send(line)) {
            tracing::error!("the audit log cannot keep up; an event is lost");
        }
    }
}

/// What was written before is on its way to the disk when this returns.
impl Drop for LogFile {
    fn drop(&mut self) {
        drop(self.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A writer that panicked has said so.
            let _ = writer.join();
        }
    }
}

struct Output {
    path: PathBuf,
    rotation: Rotation,
    file: BufWriter<File>,
    written: u64,
}

impl Output {
    fn open(path: PathBuf, rotation: Rotation) -> Result<Self, LogError> {
        match append(&path) {
            Ok((file, written)) => Ok(Self { path, rotation, file, written }),
            Err(source) => Err(LogError { doing: "opening", path, source }),
        }
    }

    fn run(&mut self, lines: &Receiver<Vec<u8>>) {
        while let Ok(line) = lines.recv() {
            let mut outcome = self.line(&line);
            while let Ok(line) = lines.try_recv() {
                outcome = outcome.and_then(|()| self.line(&line));
            }
            if let Err(error) = outcome.and_then(|()| self.file.flush()) {
                tracing::error!(path = %self.path.display(), %error, "writing the audit log failed");
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.written > 0 && self.written + line.len() as u64 > self.rotation.bytes {
            self.rotate()?;
        }
        self.written += line.len() as u64;
        self.file.write_all(line)
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let aside = |number: usize| PathBuf::from(format!("{}.{number}", self.path.display()));
        for number in (1..self.rotation.backups).rev() {
            if aside(number).exists() {
                std::fs::rename(aside(number), aside(number + 1))?;
            }
        }
        if self.rotation.backups > 0 {
            std::fs::rename(&self.path, aside(1))?;
        } else {
            std::fs::remove_file(&self.path)?;
        }
        (self.file, self.written) = append(&self.path)?;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<(BufWriter<File>, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    Ok((BufWriter::new(file), length))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_has_grown_is_put_aside() {
        let folder = std::env::temp_dir().join(format!("audit-{}", crate::identifier::uuid()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("log");
        let log = LogFile::open(&path, Rotation { bytes: 10, backups: 2 }).unwrap();
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n", "six\n"] {
            log.write(line.into());
        }
        drop(log);
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(
            (read("log"), read("log.1"), read("log.2")),
            ("six\n".into(), "four\nfive\n".into(), "three\n".into())
        );
        // Opened again, it is appended to.
        let log = LogFile::open(&path, Rotation::default()).unwrap();
        log.write(b"more\n".to_vec());
        drop(log);
        assert_eq!(read("log"), "six\nmore\n");
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(LogFile::open(&folder.join("none/log"), Rotation::default()).is_err());
    }
}
