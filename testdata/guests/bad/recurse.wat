;; Calls itself for ever, without a loop. The host ends the call, by the budget or by the depth of its stack.
(module
  (memory (export "memory") 1)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func $deeper (param $n i32) (result i32)
    (i32.add (call $deeper (i32.add (local.get $n) (i32.const 1))) (local.get $n)))
  (func (export "on_authenticate") (param i32) (result i32)
    (call $deeper (i32.const 0))))
