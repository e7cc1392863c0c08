#!/bin/sh
# Builds the guests in Rust into testdata/guests, the same octets each time that
# the same compiler is used, wherever the tree is. Run it from anywhere. CARGO and
# RUSTC are the tools; without them Debian's, which have the target (packages
# rustc, cargo, libstd-rust-dev-wasm32, lld). Nothing is downloaded.
set -eu

cd "$(dirname "$0")/../../.."
CARGO=${CARGO:-/usr/bin/cargo}
RUSTC=${RUSTC:-/usr/bin/rustc}
target=wasm32-unknown-unknown
out=$PWD/testdata/guests
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export RUSTC
unset CARGO_BUILD_TARGET

# Each is built as 'parley plugin new' lays it out, the SDK in the plugin's folder:
# cargo derives names of symbols from where a dependency is, relative to the
# plugin, and only then are they the same everywhere.
guest() { # guest OUTPUT SOURCE LIBRARY
	dir=$work/$1
	mkdir "$dir" "$dir/sdk"
	cp -R "$2/src" "$2/Cargo.toml" "$dir"
	cp -R sdk/rust/src sdk/rust/Cargo.toml "$dir/sdk"
	sed 's|^parley = .*|parley = { path = "sdk" }|' "$2/Cargo.toml" >"$dir/Cargo.toml"
	(
		cd "$dir"
		export CARGO_TARGET_DIR="$dir/target"
		# Unlike RUSTFLAGS, this may have spaces.
		CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$dir=." "$CARGO" build --quiet --offline --release --target "$target"
	)
	cp "$dir/target/$target/release/$3.wasm" "$out/$1.wasm"
	chmod 644 "$out/$1.wasm"
}

guest conform-rust sdk/rust/conform conform
guest hello-rust sdk/rust/hello plugin
guest example-rust examples/plugin-rust inside
