;; Traps in the hook. The host drops the instance and says where it was.
(module
  (memory (export "memory") 1)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func (export "on_authenticate") (param i32) (result i32)
    unreachable))
