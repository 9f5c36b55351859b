//! The built-in pod network as a CNI plug-in, for a foreign container runtime: it connects each sandbox by a plug-in while
//! it makes it. The plug-in is this binary by another name; it asks the node, which does what it does for its own runtime.
//!
//! ```text
//! containerd ─▶ <bin dir>/sampan (CNI_COMMAND=ADD) ─▶ <data dir>/net/cni.sock ─▶ seams::Network::attach
//! ```

mod plug_in;
mod server;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use plug_in::asked;
pub use server::serve;

/// The type of the plug-in, which is the name of its program, and the name of the network.
const NAME: &str = "sampan";
/// Runtimes take the first by name, and people rarely have one before it.
const CONFIG: &str = "10-sampan.conflist";
const VERSION: &str = "1.0.0";

/// What the plug-in asks the node: one line of JSON on a connection, and one as the answer.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    command: Command,
    sandbox: String,
    netns: PathBuf,
    /// The pod's name, namespace and uid, where the runtime tells.
    pod: [String; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Command {
    Add,
    Delete,
}

/// The sandbox's addresses, or why it has none.
type Answer = Result<Vec<IpAddr>, String>;

pub fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("net").join("cni.sock")
}

/// Where a runtime finds the plug-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Installed {
    config: PathBuf,
    program: PathBuf,
}

impl Installed {
    /// In the folders of the runtime.
    pub fn at(conf_dir: &Path, bin_dir: &Path) -> Self {
        Self { config: conf_dir.join(CONFIG), program: bin_dir.join(NAME) }
    }

    /// The program first: the runtime looks at the configuration as soon as it is there.
    pub fn install(&self, socket: &Path) -> Result<()> {
        for path in [&self.config, &self.program] {
            let parent = path.parent().context("a folder for the CNI plug-in")?;
            std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        }
        let binary = std::env::current_exe().context("finding this program")?;
        replace(&self.program, |path| std::os::unix::fs::symlink(&binary, path))?;
        let loopback = self.program.with_file_name("loopback");
        if !loopback.exists() {
            tracing::warn!(path = %loopback.display(), "the runtime has no loopback plug-in, and most want one");
        }
        let plug_in = json!({ "type": NAME, "socket": socket });
        let config = json!({ "cniVersion": VERSION, "name": NAME, "plugins": [plug_in] });
        replace(&self.config, |path| std::fs::write(path, format!("{config:#}\n")))
    }

    /// The program stays where another Sampan has put its own.
    pub fn remove(&self) -> Result<()> {
        let mut left = vec![&self.config];
        let ours = std::env::current_exe().context("finding this program")?;
        left.extend(std::fs::read_link(&self.program).is_ok_and(|program| program == ours).then_some(&self.program));
        for path in left {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other.with_context(|| format!("removing {}", path.display()))?,
            }
        }
        Ok(())
    }
}

/// Nobody sees half of it.
fn replace(path: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let new = path.with_extension(format!("{}-new", std::process::id()));
    make(&new).and_then(|()| std::fs::rename(&new, path)).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (conf, bin) = (dir.path().join("net.d"), dir.path().join("bin"));
        let installed = Installed::at(&conf, &bin);
        for _ in 0..2 {
            installed.install(Path::new("/s")).unwrap();
        }
        let config: serde_json::Value = serde_json::from_slice(&std::fs::read(conf.join(CONFIG)).unwrap()).unwrap();
        assert_eq!(config["plugins"][0]["socket"], "/s");
        assert!(bin.join(NAME).exists());
        std::fs::write(conf.join("20-other.conf"), "").unwrap();
        for _ in 0..2 {
            installed.remove().unwrap();
        }
        let left: Vec<_> = [&conf, &bin].iter().flat_map(|dir| std::fs::read_dir(dir).unwrap()).collect();
        assert_eq!(left.len(), 1);
    }
}
