;; Needs 4000 pages of memory, 250 MiB, from the start. The host refuses to load it.
(module
  (memory (export "memory") 4000)
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func (export "on_authenticate") (param i32) (result i32)
    (i32.const 0)))
