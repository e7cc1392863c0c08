;; Is done with both password (101) and ha1 (100). The chain refuses the reply.
(module
  (import "parley1" "write" (func $write (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (data (i32.const 0) "\65\00\01\00\01\00\00\00x\64\00\01\00\20\00\00\00939e7578ed9e3c518a452acee763bce9")
  (func (export "on_authenticate") (param i32) (result i32)
    (drop (call $write (i32.const 0) (i32.const 0) (i32.const 49)))
    (i32.const 1)))
