;; Prints 64 KiB at a time to standard error and output for ever. The host keeps the end of it, and ends the call.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0x10) "\00\00\01\00" "\00\00\01\00") ;; one buffer: where it is, its length
  (data (i32.const 0x10000) "spam and eggs\n")
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func (export "on_authenticate") (param i32) (result i32)
    (loop $again
      (drop (call $fd_write (i32.const 2) (i32.const 0x10) (i32.const 1) (i32.const 0x20)))
      (drop (call $fd_write (i32.const 1) (i32.const 0x10) (i32.const 1) (i32.const 0x20)))
      (br $again))
    unreachable))
