;; Denies with a reason (121) that would end the line in the answer and begin another. The chain refuses the reply.
(module
  (import "parley1" "write" (func $write (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (data (i32.const 0) "\79\00\01\00\18\00\00\00no\0d\0aTo-Path: msrp://evil/")
  (func (export "on_authenticate") (param i32) (result i32)
    (drop (call $write (i32.const 0) (i32.const 0) (i32.const 32)))
    (i32.const 2)))
