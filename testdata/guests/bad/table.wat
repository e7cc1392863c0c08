;; Makes its table larger for ever. The host bounds tables or charges them, and ends the call.
(module
  (memory (export "memory") 1)
  (table $t 1 funcref)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func (export "on_authenticate") (param i32) (result i32)
    (loop $again
      (drop (table.grow $t (ref.null func) (i32.const 65536)))
      (br $again))
    unreachable))
