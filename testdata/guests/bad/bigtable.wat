;; Has a table of a million elements from the start, 8 MiB of the host. The host refuses to load it.
(module
  (memory (export "memory") 1)
  (table 1000000 funcref)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func (export "on_authenticate") (param i32) (result i32)
    (i32.const 0)))
