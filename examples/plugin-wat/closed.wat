;; Maintenance switch: whoever authenticates is told to come back later.
(module
  (import "parley1" "write" (func $write (param $sink i32) (param $pointer i32) (param $length i32) (result i32)))
  (memory (export "memory") 1)

  ;; The reply, as a message: two fields, each of number, type, length and value.
  (data (i32.const 0)
    "\78\00" "\02\00" "\08\00\00\00" "\93\01\00\00\00\00\00\00" ;; status (120), uint: 403
    "\79\00" "\01\00" "\27\00\00\00" "closed for maintenance, come back later") ;; reason (121), text

  ;; Built for version 1.0 of the contract: major << 16 | minor.
  (func (export "parley_abi") (result i32) (i32.const 0x10000))

  (func (export "on_authenticate") (param $length i32) (result i32)
    ;; Reply to sink 0. Verdict 2 is deny; what write cannot take is a failure (< 0).
    (if (i32.lt_s (call $write (i32.const 0) (i32.const 0) (i32.const 63)) (i32.const 0))
      (then (return (i32.const -1))))
    (i32.const 2)))
