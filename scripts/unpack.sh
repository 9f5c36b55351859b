#!/usr/bin/env bash
# Unpacks a package of one of Debian's suites into a folder, without touching the system's packages.
# The mirror is the machine's own; apt verifies the package's signature.
#
#   scripts/unpack.sh SUITE PACKAGE DIRECTORY
set -euo pipefail
suite=$1 package=$2 out=$3
site=$(apt-get indextargets --format '$(SITE) $(ORIGIN)' 'Created-By: Packages' | awk '$2 == "Debian" { print $1; exit }')
[ -n "$site" ] || { echo "unpack.sh: apt knows no Debian mirror; run apt-get update first" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
: >"$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $suite main" >"$work/sources.list"
apt=(apt-get -qq
    -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
    -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
"${apt[@]}" update
(cd "$work" && "${apt[@]}" download "$package")
mkdir -p "$out"
dpkg-deb -x "$work/$package"_*.deb "$out"
