;; Has the message copied to the end of its address space and beyond. The host must not wrap around.
(module
  (import "parley1" "read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func (export "on_authenticate") (param i32) (result i32)
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 0xfffffff8) (i32.const 64)))
    (i32.const 0)))
