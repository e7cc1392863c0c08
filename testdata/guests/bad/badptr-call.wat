;; Asks a service with a request outside of its memory. The host ends the call.
(module
  (import "parley1" "call" (func $call (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func (export "on_authenticate") (param i32) (result i32)
    (drop (call $call (i32.const 0) (i32.const 0x7fffffff) (i32.const 16)))
    (i32.const 0)))
