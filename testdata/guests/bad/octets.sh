#!/bin/sh
# Writes the bad plugins that wat2wasm does not make to a directory, in which trap.wasm is.
set -eu
cd "$1"

# A component, whose preamble is followed by an empty section. The host says that it is one.
printf '\000asm\015\000\001\000\000\002\001x' >component.wasm

# No module at all. The host refuses to load it.
printf '\221\174\003\342\010\367\125\254\073\220\306\021\164\250\337\102\015\263\151\304\072\366\201\035' >garbage.wasm

# Nothing at all. The host refuses to load it.
: >empty.wasm

# A module cut in half. The host refuses to load it.
dd if=trap.wasm of=truncated.wasm bs=1 count=$(($(wc -c <trap.wasm) / 2)) 2>/dev/null

# Sets global 0, and has none: it would be one of those that the host adds to count instructions with. The host refuses
# to load it. (Types; functions 0 and 1; a memory; exports parley_abi, on_authenticate, memory; code.)
printf '\000asm\001\000\000\000' >globalindex.wasm
printf '\001\012\002\140\000\001\177\140\001\177\001\177' >>globalindex.wasm
printf '\003\003\002\000\001\005\003\001\000\001' >>globalindex.wasm
printf '\007\051\003\012parley_abi\000\000\017on_authenticate\000\001\006memory\002\000' >>globalindex.wasm
printf '\012\035\002\006\000\101\200\200\004\013\024\000\003\100\102\377\377\377\377\377\377\377\377\077\044\000\014\000\013\000\013' >>globalindex.wasm
