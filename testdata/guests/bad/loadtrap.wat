;; Traps in on_load. The host refuses to load it.
(module
  (memory (export "memory") 1)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func (export "on_load") (param i32) (result i32)
    unreachable)
  (func (export "on_authenticate") (param i32) (result i32)
    (i32.const 0)))
