//! What was connected how: one file per sandbox, written before the first plug-in is asked and removed after the last one
//! has let go. DEL is told the same as ADD was, also by a later run and where the configuration has changed since.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("{operation} the record {}", .path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the record {} is damaged", .path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) sandbox: String,
    pub(crate) netns: PathBuf,
    /// CNI_ARGS.
    pub(crate) args: String,
    /// What plug-ins are told that ask for it.
    pub(crate) capabilities: Map<String, Value>,
    /// The configuration as it was then.
    pub(crate) network: String,
    pub(crate) connected: Connected,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Connected {
    /// ADD was asked and has not been answered, or not well.
    Begun,
    Done {
        result: Value,
    },
}

/// The folder of them.
#[derive(Clone, Debug)]
pub(crate) struct Records(PathBuf);

impl Records {
    pub(crate) fn open(folder: PathBuf) -> Result<Self, RecordError> {
        let made = std::fs::create_dir_all(&folder);
        made.map_err(|source| RecordError::File { operation: "create the folder of", path: folder.clone(), source })?;
        Ok(Self(folder))
    }

    fn path(&self, sandbox: &str) -> PathBuf {
        self.0.join(format!("{sandbox}.json"))
    }

    pub(crate) fn read(&self, sandbox: &str) -> Result<Option<Record>, RecordError> {
        let path = self.path(sandbox);
        match std::fs::read(&path) {
            Ok(text) => {
                let record = serde_json::from_slice(&text);
                record.map(Some).map_err(|source| RecordError::Damaged { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RecordError::File { operation: "read", path, source }),
        }
    }

    pub(crate) fn write(&self, record: &Record) -> Result<(), RecordError> {
        let path = self.path(&record.sandbox);
        let failed = |source| RecordError::File { operation: "write", path: path.clone(), source };
        let text = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        // Whole or not at all.
        let new = path.with_extension("new");
        std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path)).map_err(failed)
    }

    pub(crate) fn remove(&self, sandbox: &str) -> Result<(), RecordError> {
        let path = self.path(sandbox);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|source| RecordError::File { operation: "remove", path, source }),
        }
    }

    pub(crate) fn sandboxes(&self) -> Result<Vec<String>, RecordError> {
        let failed = |source| RecordError::File { operation: "list", path: self.0.clone(), source };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(failed)? {
            let name = PathBuf::from(entry.map_err(failed)?.file_name());
            if name.extension().is_some_and(|extension| extension == "json")
                && let Some(sandbox) = name.file_stem().and_then(|stem| stem.to_str())
            {
                found.push(sandbox.to_owned());
            }
        }
        Ok(found)
    }

    /// Whether anything was ever connected here.
    pub(crate) fn exist(folder: &Path) -> bool {
        folder.exists()
    }
}
