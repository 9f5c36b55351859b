#!/usr/bin/env bash
# Unpacks Debian's kubectl of one suite (bookworm: 1.20, trixie: 1.32, sid: 1.36) into a folder, without touching the system's packages.
# The mirror is the machine's own; apt verifies the package's signature.
#
#   scripts/kubectl.sh SUITE DIRECTORY
set -euo pipefail
suite=$1 out=$2
[ -x "$out/kubectl" ] && exit 0
site=$(apt-get indextargets --format '$(SITE) $(ORIGIN)' 'Created-By: Packages' | awk '$2 == "Debian" { print $1; exit }')
[ -n "$site" ] || { echo "kubectl.sh: apt knows no Debian mirror; run apt-get update first" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
: >"$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $suite main" >"$work/sources.list"
apt=(apt-get -qq
    -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
    -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
"${apt[@]}" update
# Before trixie the package had another name.
package=kubectl
[ "$suite" != bookworm ] || package=kubernetes-client
(cd "$work" && "${apt[@]}" download "$package")
dpkg-deb -x "$work/$package"_*.deb "$work/unpacked"
mkdir -p "$out"
install -m 0755 "$work/unpacked/usr/bin/kubectl" "$out/kubectl.new"
mv "$out/kubectl.new" "$out/kubectl"
