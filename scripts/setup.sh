#!/usr/bin/env bash
# Installs what the build, the demo and the tests need from Debian's packages. Does nothing the second time.
set -euo pipefail
packages=(pkg-config libseccomp-dev nftables iproute2 conntrack dnsutils curl wrk procps openssl busybox-static docker-registry)
if [ "${1:-}" = tests ]; then
    packages+=(containernetworking-plugins iptables containerd runc)
    # For the clients of other languages, unless the machine has them from elsewhere.
    python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
    command -v npm >/dev/null || packages+=(nodejs npm)
fi
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing ${missing[*]}" >&2
    apt-get update -qq
    # The registry and containerd are only ever started by the tests.
    mkdir -p /run/systemd 2>/dev/null || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
# apt's lists are needed to find kubectl and the packages that images are made of.
apt-get indextargets --format '$(FILENAME)' 'Created-By: Packages' | xargs -r ls >/dev/null 2>&1 || apt-get update -qq
here=$(dirname "$0")
"$here/kubectl.sh" trixie "$here/../target/kubectl/trixie"
# sid moves on and may be out of reach for a while; then 1.32 alone is used.
"$here/kubectl.sh" sid "$here/../target/kubectl/sid" || echo "kubectl of sid is not to be had; going on with trixie's" >&2
if [ "${1:-}" = tests ] && ! cargo nextest --version >/dev/null 2>&1; then
    cargo install --locked cargo-nextest
fi
if [ "${1:-}" = tests ]; then
    "$here/kubectl.sh" bookworm "$here/../target/kubectl/bookworm"
    "$here/clients.sh"
fi
