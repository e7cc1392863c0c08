;; Imports parley1.read with another type than it has. The host refuses to load it.
(module
  (import "parley1" "read" (func (param i64) (result i64)))
  (memory (export "memory") 1)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func (export "on_authenticate") (param i32) (result i32)
    (i32.const 0)))
