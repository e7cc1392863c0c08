;; Writes to the reply for ever, whatever the host says. The host takes no more than a message, and ends the call.
(module
  (import "parley1" "write" (func $write (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func (export "on_authenticate") (param i32) (result i32)
    (loop $again
      (drop (call $write (i32.const 0) (i32.const 0) (i32.const 1024)))
      (br $again))
    unreachable))
