;; Logs for ever. The host logs what the rate allows, counts the rest, and ends the call.
(module
  (import "parley1" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "spam and eggs")
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func (export "on_authenticate") (param i32) (result i32)
    (loop $again
      (call $log (i32.const 1) (i32.const 0) (i32.const 13))
      (br $again))
    unreachable))
