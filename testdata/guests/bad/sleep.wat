;; Sleeps for an hour, again and again, until the clock says that an hour is over. The host does not sleep, and ends the call.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  ;; A subscription to the monotonic clock (1): 3600e9 nanoseconds from now.
  (data (i32.const 0x110) "\01\00\00\00\00\00\00\00" "\00\a0\b8\30\46\03\00\00")
  (func (export "parley_abi") (result i32) (i32.const 0x10000))
  (func (export "on_authenticate") (param i32) (result i32)
    (local $end i64)
    (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 0)))
    (local.set $end (i64.add (i64.load (i32.const 0)) (i64.const 3600000000000)))
    (loop $again
      (drop (call $poll (i32.const 0x100) (i32.const 0x200) (i32.const 1) (i32.const 0x300)))
      (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 0)))
      (br_if $again (i64.lt_u (i64.load (i32.const 0)) (local.get $end))))
    (i32.const 0)))
