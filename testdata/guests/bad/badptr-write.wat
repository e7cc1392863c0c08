;; Writes a reply whose pointer and length wrap around to 1. The host must not wrap around.
(module
  (import "parley1" "write" (func $write (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func (export "on_authenticate") (param i32) (result i32)
    (drop (call $write (i32.const 0) (i32.const 0xffffffff) (i32.const 2)))
    (i32.const 1)))
