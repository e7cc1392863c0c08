;; Replies with a password whose length runs past the end of the reply. The host refuses the reply.
(module
  (import "parley1" "write" (func $write (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (data (i32.const 0) "\65\00\01\00\64\00\00\00short")
  (func (export "on_authenticate") (param i32) (result i32)
    (drop (call $write (i32.const 0) (i32.const 0) (i32.const 13)))
    (i32.const 1)))
