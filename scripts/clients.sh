#!/usr/bin/env bash
# Installs the clients of tests/clients below target/clients, each as its users do. Does nothing the second time.
set -euo pipefail
cd "$(dirname "$0")/.."
out=target/clients
mkdir -p "$out"

# Runs a command unless it ran for this file as it is.
once() {
    local stamp=$out/$1.stamp file=$2
    shift 2
    cmp -s "$file" "$stamp" && return
    "$@"
    cp "$file" "$stamp"
}

python() {
    rm -rf "$out/python"
    python3 -m venv "$out/python"
    "$out/python/bin/python" -m pip install --quiet --disable-pip-version-check --requirement tests/clients/python/requirements.txt
    # The Container Runtime Interface as upstream describes it (Apache-2.0), made into a module for cri.py.
    scripts/unpack.sh sid golang-k8s-cri-api-dev "$out/cri-api"
    mkdir -p "$out/python/cri"
    "$out/python/bin/python" -m grpc_tools.protoc --proto_path "$out/cri-api/usr/share/gocode/src/k8s.io/cri-api/pkg/apis/runtime/v1" \
        --python_out "$out/python/cri" api.proto
}

javascript() {
    rm -rf "$out/javascript"
    mkdir -p "$out/javascript"
    cp tests/clients/javascript/package{,-lock}.json "$out/javascript"
    npm ci --prefix "$out/javascript" --ignore-scripts --no-audit --no-fund --loglevel=error
    # Node looks for packages where the program is.
    ln -s ../../../tests/clients/javascript/check.js "$out/javascript/check.js"
}

once python tests/clients/python/requirements.txt python
once javascript tests/clients/javascript/package-lock.json javascript
cargo build --quiet --locked --manifest-path tests/clients/rust/Cargo.toml --target-dir "$out/rust"
