;; Fills its memory again and again by one instruction. The host charges what it fills, and ends the call.
(module
  (memory (export "memory") 32)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func (export "on_authenticate") (param i32) (result i32)
    (loop $again
      (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x200000))
      (br $again))
    unreachable))
