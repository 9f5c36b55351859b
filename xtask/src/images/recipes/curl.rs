//! curl with a shell, as the curl project's own image: arguments that are no program are curl's.

use serde_json::json;

use super::{PATH, Recipe, busybox};

const ENTRYPOINT: &str = "#!/bin/sh
# Options and URLs are for curl; anything that is a program runs as it stands.
case \"$1\" in
-*) set -- curl \"$@\" ;;
*) command -v \"$1\" >/dev/null 2>&1 || set -- curl \"$@\" ;;
esac
exec \"$@\"
";

pub fn recipe() -> Recipe {
    Recipe {
        name: "curl",
        // Debian's version is another; the tags are those that manifests name.
        tags: &["curlimages/curl:8.18.0", "curlimages/curl:latest"],
        packages: &["curl", "libc-bin", "busybox-static"],
        finish: |rootfs| {
            rootfs.file("entrypoint.sh", 0o755, ENTRYPOINT);
            busybox::fill(rootfs, "usr/bin")
        },
        config: |_| Ok(json!({"Env": [PATH], "Entrypoint": ["/entrypoint.sh"], "Cmd": ["curl"], "User": "curl_user"})),
    }
}
