#!/bin/sh
# Builds the guests in C and WAT into testdata/guests, the same octets each time
# that the same tools are used. Run it from anywhere. CLANG, WASM_LD and WAT2WASM
# are the tools, if they are not those that the PATH has.
set -eu

first() { # the first of these programs that there is
	for tool; do
		if command -v "$tool" >/dev/null 2>&1; then
			echo "$tool"
			return
		fi
	done
	echo "$1"
}

cd "$(dirname "$0")/../../.."
CLANG=${CLANG:-$(first clang clang-14)}
WASM_LD=${WASM_LD:-$(first wasm-ld wasm-ld-14)}
WAT2WASM=${WAT2WASM:-$(first wat2wasm)}
out=testdata/guests
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The two steps are apart, for clang would run wasm-opt between them where there
# is one. Names stay, so that stacks can be read; no path gets into a module.
c() { # c OUTPUT SOURCE
	"$CLANG" --target=wasm32 -std=c11 -ffreestanding -Os -mbulk-memory -Wall -Wextra -Wpedantic -Wconversion -Werror \
		-Isdk/c -c "$2" -o "$work/plugin.o"
	"$WASM_LD" --no-entry --stack-first -z stack-size=65536 --strip-debug "$work/plugin.o" -o "$out/$1.wasm"
	chmod 644 "$out/$1.wasm" # wasm-ld takes it for a program
}

wat() { # wat OUTPUT SOURCE
	"$WAT2WASM" "$2" -o "$out/$1.wasm"
}

c conform-c sdk/c/conform/conform.c
c hello-c sdk/c/hello/plugin.c
c example-c examples/plugin-c/users.c
wat conform-wat "$out/wat/conform.wat"
wat example-wat examples/plugin-wat/closed.wat

# Bad plugins: each is a file in WAT, or octets that are no module at all.
for source in "$out"/bad/*.wat; do
	wat "bad/$(basename "$source" .wat)" "$source"
done
sh "$out/bad/octets.sh" "$out/bad"
