#!/bin/sh
# Tests the SDK in AssemblyScript under node: its codec against
# testdata/abi/vectors.json. Run it from anywhere; see build.sh.
set -eu

cd "$(dirname "$0")/../../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. testdata/guests/assemblyscript/compiler.sh

compile "$work/vectors.wasm" sdk/assemblyscript/conform/vectors.ts
node sdk/assemblyscript/conform/vectors.mjs "$work/vectors.wasm" testdata/abi/vectors.json
