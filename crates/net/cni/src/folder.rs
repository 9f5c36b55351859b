//! The folder of configurations: the first one counts.

use std::io;
use std::path::{Path, PathBuf};

use crate::list::{ListError, MOST_BYTES, NetworkList};

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{operation} {}", .path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}: more than {MOST_BYTES} bytes", .0.display())]
    Long(PathBuf),
    #[error("{}", .path.display())]
    List {
        path: PathBuf,
        #[source]
        source: ListError,
    },
    /// As containerd words it: people look for this.
    #[error("no network config found in {}: cni plugin not initialized", .0.display())]
    None(PathBuf),
}

/// A configuration and where it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub path: PathBuf,
    pub list: NetworkList,
}

pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::File { operation, path, source }
}

/// The first in the order of names, as upstream's runtimes take it: one that is wrong is not passed over.
pub(crate) fn first(folder: &Path) -> Result<Found, FolderError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed("list", folder))? {
        let path = entry.map_err(failed("list", folder))?.path();
        let of_kind =
            path.extension().is_some_and(|extension| ["conf", "conflist", "json"].iter().any(|e| extension == *e));
        // A link to a file counts, a folder does not.
        if of_kind && path.is_file() {
            paths.push(path);
        }
    }
    let path = paths.into_iter().min().ok_or_else(|| FolderError::None(folder.to_owned()))?;
    let size = std::fs::metadata(&path).map_err(failed("read", &path))?.len();
    if size > MOST_BYTES {
        return Err(FolderError::Long(path));
    }
    let text = std::fs::read(&path).map_err(failed("read", &path))?;
    match NetworkList::parse(&text) {
        Ok(list) => Ok(Found { path, list }),
        Err(source) => Err(FolderError::List { path, source }),
    }
}
