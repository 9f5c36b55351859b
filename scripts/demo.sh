#!/usr/bin/env bash
# Walks the tutorial "Connecting Applications with Services" on a throw-away cluster and shows that nothing is left behind.
#
#   scripts/demo.sh BINARY
#
# The node lives in a network namespace of its own, joined to another one that stands for the world outside. Needs root, and
# the images of `cargo xtask images` unless a registry answers.
set -euo pipefail

[ $# = 1 ] || { echo "usage: scripts/demo.sh BINARY" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "demo: needs root, for network namespaces and containers" >&2; exit 1; }
here=$(cd "$(dirname "$0")" && pwd)
binary=$(realpath "$1")
work=$(mktemp -d /tmp/sampan-demo.XXXXXX)
node=sampan-demo-$$ outside=sampan-demo-$$-out
export DEMO_DIRECTORY=$work DATA_DIR=$work/data
export HOME=$work KUBECONFIG=$DATA_DIR/kubeconfig.yaml PATH=$work/bin:$PATH
unset "${!SAMPAN_@}"

heading() { printf '\n\e[1m== %s\e[0m\n' "$*"; }
typed() { printf '\e[36m$ %s\e[0m\n' "$*"; eval "$*"; }
# Not `ip netns exec`: that would hide the cgroup mounts below a new sysfs.
on_node() { nsenter --net="/run/netns/$node" -- "$@"; }

server_pid() {
    local pid
    pid=$(cat "$work/server.pid" 2>/dev/null) || return 1
    [ "$(readlink "/proc/$pid/exe")" = "$binary" ] && echo "$pid"
}

cleanup() {
    local code=$? pid
    trap - EXIT INT TERM HUP
    if pid=$(server_pid); then kill -KILL "$pid"; fi
    if [ -e "$DATA_DIR" ]; then on_node "$binary" uninstall --data-dir "$DATA_DIR" || true; fi
    ip netns delete "$node" 2>/dev/null || true
    ip netns delete "$outside" 2>/dev/null || true
    if [ $code != 0 ] && [ -s "$work/server.log" ]; then
        cp "$work/server.log" /tmp/sampan-demo.log
        echo "demo: the server's log is in /tmp/sampan-demo.log" >&2
    fi
    rm -rf "$work"
    exit $code
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# What Sampan may own: everything in the node's namespace, and on the machine what lies in or names the demo's
# directory, its cgroup (which says which), or its namespace. Other clusters of this machine come and go meanwhile.
kernel_state() {
    echo "links:"; on_node ip -o link show
    echo "rules:"; on_node nft list ruleset
    echo "routes:"; on_node ip route show table all; on_node ip rule
    echo "neighbours:"; on_node ip neighbour show nud permanent
    echo "parameters:"; on_node sh -c 'grep -r "" /proc/sys/net/ipv4/conf/eth0 /proc/sys/net/ipv4/conf/all /proc/sys/net/ipv4/ip_forward' 2>/dev/null | sort
    echo "mounts:"; grep -F "$1" /proc/self/mountinfo || true
    echo "cgroups:"; find /sys/fs/cgroup -type d -name "$2" -prune 2>/dev/null
    echo "processes:"; processes "$1" "$2"
}
processes() {
    local directory namespace
    namespace=$(stat -L -c %i "/run/netns/$node")
    for directory in /proc/[0-9]*; do
        # A dead child whose parent is gone belongs to the machine's init.
        grep -qs '^State:.Z' "$directory/status" && continue
        if [ "$(stat -L -c %i "$directory/ns/net" 2>/dev/null)" = "$namespace" ] || grep -qsF "/$2" "$directory/cgroup" ||
            grep -qsaF "$DATA_DIR" "$directory/cmdline"; then
            echo "${directory#/proc/} $(tr '\0' ' ' 2>/dev/null <"$directory/cmdline")"
        fi
    done
}

mkdir -p "$work/bin" "$DATA_DIR"
ln -s "$binary" "$work/bin/sampan"
if ! kubectl version --client >/dev/null 2>&1; then
    for kubectl in "$here"/../target/kubectl/{trixie,sid}/kubectl; do
        [ -x "$kubectl" ] && { ln -s "$(realpath "$kubectl")" "$work/bin/kubectl"; break; }
    done
    kubectl version --client >/dev/null || { echo "demo: no kubectl; scripts/setup.sh gets one" >&2; exit 1; }
fi

heading "A node: a network namespace, joined to another that stands for the world outside"
ip netns add "$node"
ip netns add "$outside"
ip -n "$node" link add eth0 type veth peer name eth0 netns "$outside"
for side in "$node 203.0.113.10" "$outside 203.0.113.1"; do
    read -r name address <<<"$side"
    ip -n "$name" address add "$address/24" dev eth0
    ip -n "$name" link set lo up
    # Without the address that the kernel itself would add after a while.
    ip -n "$name" link set eth0 addrgenmode none up
    echo "$name: eth0 $address/24"
done
# The name of what a data directory owns comes from its path.
owned=sampan-$(printf %s "$DATA_DIR" | sha256sum | cut -c1-8)
before=$(kernel_state "$work" "$owned")

heading "Images: pulled where a registry answers, else imported from archives built of Debian's packages"
online=$(curl -s -o /dev/null -w '%{http_code}' -m 3 https://registry-1.docker.io/v2/ || true)
export SAMPAN_DATA_DIR=$DATA_DIR
for image in nginx busybox:1.37 curlimages/curl:8.18.0; do
    archive=${image##*/}
    archive=target/images/${archive%%:*}.tar
    if [ "$online" = 401 ] && typed timeout 120 sampan image pull "$image"; then continue; fi
    (cd "$here/.." && typed sampan image import "$archive")
done
typed sampan image ls

cd "$here/.."
status=0
on_node timeout --foreground 300 scripts/tutorial.sh || status=$?
[ $status != 124 ] || echo "demo: the tutorial took longer than 300 s" >&2
[ $status = 0 ] || exit $status

heading "Uninstall, with the server killed and its pods running"
echo "before: $(processes "$work" "$owned" | wc -l) processes, $(on_node ip -o link show | wc -l) links, $(grep -cF "$work" /proc/self/mountinfo) mounts"
pid=$(server_pid)
typed "kill -KILL $pid"
# Not our child. Its first thread can be gone while others still hold its files.
while grep -qs '^State:.[^Z]' /proc/"$pid"/task/*/status; do sleep 0.01; done
typed "nsenter --net=/run/netns/$node sampan uninstall"
after=$(kernel_state "$work" "$owned")
if [ "$before" != "$after" ]; then
    echo "demo: left behind:" >&2
    diff <(echo "$before") <(echo "$after") >&2 || true
    exit 1
fi
[ ! -e "$DATA_DIR" ] || { echo "demo: $DATA_DIR is still there" >&2; exit 1; }
echo "after: links, rules, routes, neighbours, kernel parameters, mounts, cgroups and processes are as before"
heading "Done in $SECONDS s"
