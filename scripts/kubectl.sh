#!/usr/bin/env bash
# Puts Debian's kubectl of one suite (bookworm: 1.20, trixie: 1.32, sid: 1.36) into a folder.
#
#   scripts/kubectl.sh SUITE DIRECTORY
set -euo pipefail
suite=$1 out=$2
[ -x "$out/kubectl" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Before trixie the package had another name.
package=kubectl
[ "$suite" != bookworm ] || package=kubernetes-client
"$(dirname "$0")/unpack.sh" "$suite" "$package" "$work"
mkdir -p "$out"
install -m 0755 "$work/usr/bin/kubectl" "$out/kubectl.new"
mv "$out/kubectl.new" "$out/kubectl"
