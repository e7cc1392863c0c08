#!/bin/sh
# Tests the SDK in Rust on this machine: its codec against testdata/abi/vectors.json,
# the examples in its documentation, and the tests of skeleton and example. Run it
# from anywhere. CARGO, RUSTC and RUSTDOC are the tools, if they are not Debian's.
set -eu

cd "$(dirname "$0")/../../.."
CARGO=${CARGO:-/usr/bin/cargo}
RUSTC=${RUSTC:-/usr/bin/rustc}
RUSTDOC=${RUSTDOC:-${RUSTC%rustc}rustdoc}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export RUSTC RUSTDOC CARGO_TARGET_DIR="$work/target"

# A copy, since cargo writes beside what it builds.
mkdir -p "$work/sdk" "$work/examples" "$work/testdata"
cp -R sdk/rust "$work/sdk/rust"
cp -R examples/plugin-rust "$work/examples/plugin-rust"
cp -R testdata/abi "$work/testdata/abi"
mkdir "$work/sdk/rust/hello/sdk"
cp -R sdk/rust/src sdk/rust/Cargo.toml "$work/sdk/rust/hello/sdk"

for dir in sdk/rust sdk/rust/conform sdk/rust/hello examples/plugin-rust; do
	echo "== $dir"
	"$CARGO" test --quiet --offline --manifest-path "$work/$dir/Cargo.toml"
done
