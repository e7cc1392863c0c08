;; Loops for ever. The host ends the call when its budget is used up.
(module
  (memory (export "memory") 1)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func (export "on_authenticate") (param i32) (result i32)
    (loop $again (br $again))
    unreachable))
