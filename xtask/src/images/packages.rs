//! Debian packages by way of apt: what a set of packages needs at run time, and their archives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Needed by maintainer scripts or by the package system alone; no script runs here.
const NOT_IN_CONTAINERS: &[&str] = &[
    "adduser",
    "base-files",
    "debconf",
    "debianutils",
    "dpkg",
    "init-system-helpers",
    "install-info",
    "iproute2",
    "lsb-base",
    "perl-base",
    "sysvinit-utils",
    "tar",
    "ucf",
];

/// Packages with everything they need, by name.
pub struct Closure(BTreeMap<String, Package>);

struct Package {
    version: String,
    /// Each an alternative: the first that exists is taken.
    depends: Vec<Vec<String>>,
}

impl Closure {
    pub fn versions(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, package)| (name.as_str(), package.version.as_str()))
    }

    pub fn version(&self, name: &str) -> Result<&str> {
        Ok(&self.0.get(name).with_context(|| format!("package {name} is not in the image"))?.version)
    }

    /// Downloads the archives into a directory that goes when the value is dropped. apt checks signatures and digests.
    pub fn download(&self) -> Result<(tempfile::TempDir, Vec<PathBuf>)> {
        let directory = tempfile::tempdir()?;
        let mut apt = Command::new("apt-get");
        // Root downloads itself: apt's own user has no access to a private directory.
        apt.current_dir(directory.path()).args(["--quiet=2", "-o", "APT::Sandbox::User=root", "download"]);
        apt.args(self.versions().map(|(name, version)| format!("{name}={version}")));
        output(&mut apt)?;
        let mut archives = Vec::new();
        for entry in std::fs::read_dir(directory.path())? {
            archives.push(entry?.path());
        }
        archives.sort();
        if archives.len() != self.0.len() {
            bail!("apt-get downloaded {} archives for {} packages", archives.len(), self.0.len());
        }
        Ok((directory, archives))
    }
}

/// The packages that `wanted` need to run.
pub fn closure(wanted: &[&str]) -> Result<Closure> {
    let mut closure = BTreeMap::new();
    let mut missing: BTreeSet<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    let mut refreshed = false;
    while !missing.is_empty() {
        let mut found = show(&missing)?;
        if let Some(unknown) = missing.iter().find(|name| !found.contains_key(*name)) {
            if refreshed {
                bail!("apt knows no package {unknown}");
            }
            output(Command::new("apt-get").args(["--quiet=2", "update"]))?;
            refreshed = true;
            continue;
        }
        closure.append(&mut found);
        missing = needs(&closure);
        // Of alternatives the first that exists; asked only where there is a choice.
        let mut next = BTreeSet::new();
        for alternatives in missing_alternatives(&closure) {
            let known = show(&alternatives.iter().cloned().collect())?;
            match alternatives.iter().find(|name| known.contains_key(*name)) {
                Some(name) => {
                    next.insert(name.clone());
                }
                None => bail!("none of {} is a package", alternatives.join(", ")),
            }
        }
        missing.extend(next);
    }
    Ok(Closure(closure))
}

fn unmet(closure: &BTreeMap<String, Package>) -> impl Iterator<Item = &Vec<String>> {
    closure.values().flat_map(|package| &package.depends).filter(|alternatives| {
        !alternatives.iter().any(|name| closure.contains_key(name) || NOT_IN_CONTAINERS.contains(&name.as_str()))
    })
}

fn needs(closure: &BTreeMap<String, Package>) -> BTreeSet<String> {
    unmet(closure).filter(|alternatives| alternatives.len() == 1).flatten().cloned().collect()
}

fn missing_alternatives(closure: &BTreeMap<String, Package>) -> Vec<Vec<String>> {
    unmet(closure).filter(|alternatives| alternatives.len() > 1).cloned().collect()
}

/// The candidate version of each package that apt knows.
fn show(names: &BTreeSet<String>) -> Result<BTreeMap<String, Package>> {
    let mut apt = Command::new("apt-cache");
    apt.args(["show", "--no-all-versions"]).args(names).env("LC_ALL", "C");
    // Fails when one is unknown, and still prints the others.
    let output = apt.output().context("run apt-cache")?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> Result<BTreeMap<String, Package>> {
    let mut packages = BTreeMap::new();
    for stanza in text.split("\n\n").filter(|stanza| !stanza.trim().is_empty()) {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let name = field("Package").context("apt-cache printed a stanza without a name")?;
        let version = field("Version").with_context(|| format!("package {name} has no version"))?;
        let depends = [field("Pre-Depends"), field("Depends")].into_iter().flatten().flat_map(dependencies).collect();
        packages.insert(name.to_owned(), Package { version: version.to_owned(), depends });
    }
    Ok(packages)
}

/// `a (>= 1), b:any | c` as [[a], [b, c]]: apt's candidates belong together, so versions need no check.
fn dependencies(text: &str) -> Vec<Vec<String>> {
    let name = |text: &str| text.trim().split([' ', ':', '(']).next().unwrap_or_default().to_owned();
    text.split(',').map(|alternatives| alternatives.split('|').map(name).collect()).collect()
}

/// Standard output of a command that must succeed.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_lose_versions_and_keep_alternatives() {
        let text = "libc6 (>= 2.34), debconf (>= 0.5) | debconf-2.0, perl:any";
        assert_eq!(dependencies(text), [vec!["libc6"], vec!["debconf", "debconf-2.0"], vec!["perl"]]);
    }

    #[test]
    fn stanzas_become_packages() {
        let text = "Package: a\nVersion: 1:2-3\nDepends: b\nPre-Depends: c\n\nPackage: b\nVersion: 4\n\n";
        let packages = parse(text).unwrap();
        assert_eq!(packages["a"].version, "1:2-3");
        assert_eq!(packages["a"].depends, [["c"], ["b"]]);
        assert_eq!(needs(&packages), BTreeSet::from(["c".to_owned()]));
        assert!(parse("Version: 1\n").is_err());
    }
}
