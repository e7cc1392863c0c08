#!/bin/sh
# Builds the guests in AssemblyScript into testdata/guests, the same octets each
# time, wherever the tree is. Run it from anywhere. It needs node and npm, which
# gets the compiler; compiler.sh says how to keep it, or use another.
set -eu

cd "$(dirname "$0")/../../.."
out=testdata/guests
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. "$out/assemblyscript/compiler.sh"

compile "$out/conform-assemblyscript.wasm" sdk/assemblyscript/conform/conform.ts
compile "$out/hello-assemblyscript.wasm" sdk/assemblyscript/hello/plugin.ts
compile "$out/example-assemblyscript.wasm" examples/plugin-assemblyscript/blocked.ts
