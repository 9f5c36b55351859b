//! What is in each image.

mod busybox;
mod curl;
mod nginx;
mod pause;

use anyhow::Result;
use serde_json::Value;

use super::packages::Closure;
use super::rootfs::Rootfs;

pub struct Recipe {
    /// Of the archive.
    pub name: &'static str,
    pub tags: &'static [&'static str],
    pub packages: &'static [&'static str],
    /// Changes what the packages brought.
    finish: fn(&mut Rootfs) -> Result<()>,
    /// What a Dockerfile would set.
    config: fn(&Closure) -> Result<Value>,
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub fn all() -> Vec<Recipe> {
    vec![nginx::recipe(), busybox::recipe(), curl::recipe(), pause::recipe()]
}

impl Recipe {
    pub fn rootfs(&self, packages: &Closure) -> Result<Rootfs> {
        let mut rootfs = Rootfs::base();
        let (_directory, archives) = packages.download()?;
        for archive in &archives {
            rootfs.unpack(archive)?;
        }
        (self.finish)(&mut rootfs)?;
        Ok(rootfs)
    }

    pub fn config(&self, packages: &Closure) -> Result<Value> {
        (self.config)(packages)
    }
}

/// The upstream part of a package's version: `1:1.22.1-9+deb12u1` is 1.22.1.
fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    version.rsplit_once('-').map_or(version, |(upstream, _)| upstream)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    #[test]
    fn versions_lose_epoch_and_revision() {
        assert_eq!(super::upstream("1:1.22.1-9+deb12u1"), "1.22.1");
        assert_eq!(super::upstream("1.0"), "1.0");
    }
}
