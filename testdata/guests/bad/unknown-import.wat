;; Imports functions that there are not, of this version and of another. The host refuses to load it, and names both.
(module
  (import "parley1" "frobnicate" (func (param i32) (result i32)))
  (import "parley2" "read" (func (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func (export "on_authenticate") (param i32) (result i32)
    (i32.const 0)))
