# Run as root, on Debian 12 or newer with git, a C compiler and a Rust toolchain.
.PHONY: demo test bench setup images

# Walks the tutorial on a throw-away cluster and leaves nothing behind.
demo: setup images
	cargo build --release --locked
	scripts/demo.sh target/release/sampan

# Every check and every test.
test:
	scripts/setup.sh tests
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo xtask layers
	cargo xtask images
	cargo build --locked --package sampan
	cargo nextest run --locked --workspace
	SAMPAN_TEST_RUNTIME=containerd cargo nextest run --locked --package tests --profile containerd

# The table of docs/architecture.md's budgets, measured here.
bench: setup images
	cargo build --release --locked
	cargo run --release --locked --package xtask -- bench

setup:
	scripts/setup.sh

images:
	cargo xtask images
