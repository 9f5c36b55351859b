//! nginx, laid out as in Docker's official image, with the tools that people run inside: a shell, curl, getent,
//! nslookup.

use anyhow::Result;
use serde_json::json;

use super::{PATH, Recipe, busybox, upstream};
use crate::images::rootfs::Rootfs;

pub fn recipe() -> Recipe {
    Recipe {
        name: "nginx",
        tags: &["nginx:latest", "bprashanth/nginxhttps:1.0"],
        packages: &["nginx", "bash", "coreutils", "curl", "dash", "libc-bin", "busybox-static"],
        finish,
        config: |packages| {
            Ok(json!({
                "Env": [PATH, format!("NGINX_VERSION={}", upstream(packages.version("nginx")?))],
                "Cmd": ["nginx", "-g", "daemon off;"],
                "ExposedPorts": {"80/tcp": {}},
                "StopSignal": "SIGQUIT",
            }))
        },
    }
}

fn finish(rootfs: &mut Rootfs) -> Result<()> {
    // Debian's configuration splits sites; the official image has conf.d alone.
    for path in ["sites-available", "sites-enabled", "modules-available", "modules-enabled", "snippets"] {
        rootfs.remove(&format!("etc/nginx/{path}"));
    }
    rootfs.file("etc/nginx/nginx.conf", 0o644, include_str!("nginx.conf"));
    rootfs.file("etc/nginx/conf.d/default.conf", 0o644, include_str!("default.conf"));
    rootfs.remove("usr/share/nginx/html");
    rootfs.file("usr/share/nginx/html/index.html", 0o644, include_str!("index.html"));
    rootfs.file("usr/share/nginx/html/50x.html", 0o644, include_str!("50x.html"));
    rootfs.remove("var/www");
    rootfs.link("var/log/nginx/access.log", "/dev/stdout");
    rootfs.link("var/log/nginx/error.log", "/dev/stderr");
    rootfs.link("usr/bin/sh", "dash");
    busybox::fill(rootfs, "usr/bin")
}
