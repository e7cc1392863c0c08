;; Denies with status (120) 200. The chain refuses the reply.
(module
  (import "parley1" "write" (func $write (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (data (i32.const 0) "\78\00\02\00\08\00\00\00\c8\00\00\00\00\00\00\00")
  (func (export "on_authenticate") (param i32) (result i32)
    (drop (call $write (i32.const 0) (i32.const 0) (i32.const 16)))
    (i32.const 2)))
