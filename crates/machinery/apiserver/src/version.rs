//! `/version`: which Kubernetes this speaks, and which build of ours answers.

use serde::Serialize;

/// `version.Info`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfo {
    pub major: String,
    pub minor: String,
    pub git_version: String,
    pub git_commit: String,
    pub git_tree_state: String,
    pub build_date: String,
    pub go_version: String,
    pub compiler: String,
    pub platform: String,
}

impl VersionInfo {
    /// Kubernetes v1.36.2 as `build` of Sampan serves it; `build` goes into the version's build metadata.
    pub fn kubernetes_1_36(build: &str, commit: &str) -> Self {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let build: String =
            build.chars().map(|c| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '-' }).collect();
        Self {
            major: "1".into(),
            minor: "36".into(),
            git_version: format!("v1.36.2+sampan-{build}"),
            git_commit: commit.into(),
            git_tree_state: if commit.is_empty() { "unknown" } else { "clean" }.into(),
            build_date: "1970-01-01T00:00:00Z".into(),
            go_version: "none".into(),
            compiler: "rustc".into(),
            platform: format!("{}/{arch}", std::env::consts::OS),
        }
    }
}
