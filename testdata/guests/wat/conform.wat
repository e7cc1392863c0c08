;; The conformance guest by hand: what testdata/abi/conformance.json says of each
;; user name, with nothing but ABI.md to go by.
;;
;; A text or message in here is a pair of i32: where it is, and how long. What is
;; absent is at 0 and 0 long. Memory:
;;
;;   0x000000  octets that are moved from or to imports
;;   0x000100  constants
;;   0x010000  the request
;;   0x030000  requests to services
;;   0x050000  results of services, the configuration
;;   0x070000  text that is put together, fields of the reply
(module
  (import "parley1" "read" (func $read (param $source i32) (param $offset i32) (param $to i32) (param $capacity i32) (result i32)))
  (import "parley1" "write" (func $write (param $sink i32) (param $at i32) (param $length i32) (result i32)))
  (import "parley1" "log" (func $log (param $level i32) (param $at i32) (param $length i32)))
  (import "parley1" "call" (func $call (param $service i32) (param $at i32) (param $length i32) (result i32)))

  (memory (export "memory") 16)

  (global $request (mut i32) (i32.const 0))      ;; length of the request
  (global $out (mut i32) (i32.const 0))          ;; where the next octet is appended, see $add
  (global $loaded (mut i32) (i32.const 0))       ;; length of the configuration that on_load was given
  (global $count (mut i64) (i64.const 0))

  ;; Constants. User names are compared with what is here, each at its own 16 octets.
  (data (i32.const 0x100) "ha1")
  (data (i32.const 0x110) "password")
  (data (i32.const 0x120) "authenticated")
  (data (i32.const 0x130) "deny")
  (data (i32.const 0x140) "deny-plain")
  (data (i32.const 0x150) "fail")
  (data (i32.const 0x160) "strange")
  (data (i32.const 0x170) "field")
  (data (i32.const 0x180) "deadline")
  (data (i32.const 0x190) "list")
  (data (i32.const 0x1a0) "config")
  (data (i32.const 0x1b0) "loaded")
  (data (i32.const 0x1c0) "log")
  (data (i32.const 0x1d0) "count")
  (data (i32.const 0x1e0) "time")
  (data (i32.const 0x1f0) "random")
  (data (i32.const 0x200) "kv-set")
  (data (i32.const 0x210) "kv-get")
  (data (i32.const 0x220) "kv-del")
  (data (i32.const 0x230) "kv-incr")
  (data (i32.const 0x240) "kv-cas")
  (data (i32.const 0x250) "metric")
  (data (i32.const 0x260) "http")
  (data (i32.const 0x270) "session")
  (data (i32.const 0x280) "session-none")
  (data (i32.const 0x290) "feature")
  (data (i32.const 0x2a0) "nosys")
  (data (i32.const 0x2b0) "hash")
  (data (i32.const 0x2c0) "hmac")
  (data (i32.const 0x2d0) "big")
  (data (i32.const 0x2e0) "body")
  (data (i32.const 0x2f0) "trap")
  (data (i32.const 0x300) "last")
  (data (i32.const 0x310) "mark")
  (data (i32.const 0x320) "group")
  (data (i32.const 0x330) "refuse")

  ;; Names of parameters, and other words.
  (data (i32.const 0x400) "suffix")
  (data (i32.const 0x410) "item")
  (data (i32.const 0x420) "key")
  (data (i32.const 0x430) "value")
  (data (i32.const 0x440) "ttl")
  (data (i32.const 0x450) "url")
  (data (i32.const 0x460) "op")
  (data (i32.const 0x470) "ok")
  (data (i32.const 0x480) "bad")
  (data (i32.const 0x490) "staff")
  (data (i32.const 0x4a0) "color")
  (data (i32.const 0x4b0) "blue")
  (data (i32.const 0x4c0) "no such user")
  (data (i32.const 0x4d0) "database is down")
  (data (i32.const 0x4e0) "hello 0")
  (data (i32.const 0x4f0) "conform_total")
  (data (i32.const 0x500) "counter")
  (data (i32.const 0x510) "GET")
  (data (i32.const 0x520) "X-Conform")
  (data (i32.const 0x530) "yes")
  (data (i32.const 0x540) "seen")
  (data (i32.const 0x550) "nothing")
  (data (i32.const 0x560) "md5")
  (data (i32.const 0x570) "sha-256")
  (data (i32.const 0x580) ":secret")
  (data (i32.const 0x590) "Jefe")
  (data (i32.const 0x5a0) "not from ")
  (data (i32.const 0x5b0) "refuse:")
  (data (i32.const 0x5c0) "what do ya want for nothing?")
  (data (i32.const 0x5e0) "0123456789abcdef")
  (data (i32.const 0x5f0) "limits")

  ;; Fields that can be asked for by name: length of the name, field, name; 16
  ;; octets each, up to one whose length is 0.
  (data (i32.const 0x600) "\08\01listener      \09\02transport     \0a\03local_addr    \0b\04remote_addr   ")
  (data (i32.const 0x640) "\07\05tls_sni       \0d\06tls_client_cn \05\07realm         \08\08username      ")
  (data (i32.const 0x680) "\03\09uri           \06\0amethod        \09\14algorithm     \05\0bnonce         ")
  (data (i32.const 0x6c0) "\08\15response      \06\16cnonce        \02\17nc            \03\18qop           ")
  (data (i32.const 0x700) "\09\0cfrom_path     \07\0dto_path       \04\10hook          \07\11binding       ")
  (data (i32.const 0x740) "\06\21cookie        \06\22bearer        \06\23origin        \05\24relay         ")

  ;; ---- Reading messages ----

  ;; The next field at $at, of a message that ends at $end: where its value is,
  ;; and how long. A message that is cut is a bug of the host, and a trap.
  (func $value (param $at i32) (param $end i32) (result i32 i32)
    (if (i32.lt_u (i32.sub (local.get $end) (local.get $at)) (i32.const 8)) (then unreachable))
    (if (i32.gt_u (i32.load offset=4 align=1 (local.get $at)) (i32.sub (i32.sub (local.get $end) (local.get $at)) (i32.const 8)))
      (then unreachable))
    (i32.add (local.get $at) (i32.const 8))
    (i32.load offset=4 align=1 (local.get $at)))

  ;; The value of a field in the message at $at: the last one counts. Field and
  ;; type are compared as one number, type << 16 | field.
  (func $get (param $at i32) (param $length i32) (param $what i32) (result i32 i32)
    (local $end i32) (local $found i32) (local $size i32) (local $v i32) (local $n i32)
    (local.set $end (i32.add (local.get $at) (local.get $length)))
    (loop $next
      (if (i32.lt_u (local.get $at) (local.get $end))
        (then
          (call $value (local.get $at) (local.get $end))
          (local.set $n)
          (local.set $v)
          (if (i32.eq (i32.load align=1 (local.get $at)) (local.get $what))
            (then
              (local.set $found (local.get $v))
              (local.set $size (local.get $n))))
          (local.set $at (i32.add (local.get $v) (local.get $n)))
          (br $next))))
    (local.get $found)
    (local.get $size))

  ;; A text of the request, by its field.
  (func $text (param $field i32) (result i32 i32)
    (call $get (i32.const 0x10000) (global.get $request) (i32.or (local.get $field) (i32.const 0x10000))))

  ;; A number of the message at $at, by its field; 0 if it is absent.
  (func $number (param $at i32) (param $length i32) (param $field i32) (result i64)
    (local $v i32) (local $n i32)
    (call $get (local.get $at) (local.get $length) (i32.or (local.get $field) (i32.const 0x20000)))
    (local.set $n)
    (local.set $v)
    (if (i32.ne (local.get $n) (i32.const 8)) (then (return (i64.const 0))))
    (i64.load align=1 (local.get $v)))

  ;; The text of the last field of the request that is a pair with this name: of
  ;; a param (19) or attribute (25).
  (func $named (param $field i32) (param $name i32) (param $length i32) (result i32 i32)
    (local $at i32) (local $end i32) (local $v i32) (local $n i32) (local $found i32) (local $size i32)
    (local.set $at (i32.const 0x10000))
    (local.set $end (i32.add (local.get $at) (global.get $request)))
    (loop $next
      (if (i32.lt_u (local.get $at) (local.get $end))
        (then
          (call $value (local.get $at) (local.get $end))
          (local.set $n)
          (local.set $v)
          (if (i32.eq (i32.load align=1 (local.get $at)) (i32.or (local.get $field) (i32.const 0x30000)))
            (then
              ;; name is field 26, text is 27
              (if (call $equal (call $get (local.get $v) (local.get $n) (i32.const 0x1001a)) (local.get $name) (local.get $length))
                (then
                  (call $get (local.get $v) (local.get $n) (i32.const 0x1001b))
                  (local.set $size)
                  (local.set $found)))))
          (local.set $at (i32.add (local.get $v) (local.get $n)))
          (br $next))))
    (local.get $found)
    (local.get $size))

  (func $param (param $name i32) (param $length i32) (result i32 i32)
    (call $named (i32.const 19) (local.get $name) (local.get $length)))

  ;; Whether two texts are equal.
  (func $equal (param $a i32) (param $a_length i32) (param $b i32) (param $b_length i32) (result i32)
    (if (i32.ne (local.get $a_length) (local.get $b_length)) (then (return (i32.const 0))))
    (loop $next
      (if (i32.eqz (local.get $a_length)) (then (return (i32.const 1))))
      (if (i32.ne (i32.load8_u (local.get $a)) (i32.load8_u (local.get $b))) (then (return (i32.const 0))))
      (local.set $a (i32.add (local.get $a) (i32.const 1)))
      (local.set $b (i32.add (local.get $b) (i32.const 1)))
      (local.set $a_length (i32.sub (local.get $a_length) (i32.const 1)))
      (br $next))
    unreachable)

  ;; The number that digits say; 0 if there are none. Conformance's numbers are good.
  (func $parse (param $at i32) (param $length i32) (result i64)
    (local $sum i64)
    (loop $next
      (if (local.get $length)
        (then
          (local.set $sum
            (i64.add
              (i64.mul (local.get $sum) (i64.const 10))
              (i64.extend_i32_u (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (local.set $length (i32.sub (local.get $length) (i32.const 1)))
          (br $next))))
    (local.get $sum))

  ;; ---- Putting texts and messages together, at $out ----

  (func $text_here (global.set $out (i32.const 0x70000)))
  (func $request_here (global.set $out (i32.const 0x30000)))

  ;; What is there since $text_here or $request_here.
  (func $made_text (result i32 i32) (i32.const 0x70000) (i32.sub (global.get $out) (i32.const 0x70000)))
  (func $made_request (result i32 i32) (i32.const 0x30000) (i32.sub (global.get $out) (i32.const 0x30000)))

  (func $add (param $at i32) (param $length i32)
    (memory.copy (global.get $out) (local.get $at) (local.get $length))
    (global.set $out (i32.add (global.get $out) (local.get $length))))

  (func $add_octet (param $octet i32)
    (i32.store8 (global.get $out) (local.get $octet))
    (global.set $out (i32.add (global.get $out) (i32.const 1))))

  ;; Decimal digits: the leading ones first, by calling itself.
  (func $add_decimal (param $n i64)
    (if (i64.ge_u (local.get $n) (i64.const 10))
      (then (call $add_decimal (i64.div_u (local.get $n) (i64.const 10)))))
    (call $add_octet (i32.add (i32.wrap_i64 (i64.rem_u (local.get $n) (i64.const 10))) (i32.const 48))))

  (func $add_signed (param $n i32)
    (if (i32.lt_s (local.get $n) (i32.const 0))
      (then
        (call $add_octet (i32.const 45)) ;; -
        (local.set $n (i32.sub (i32.const 0) (local.get $n)))))
    (call $add_decimal (i64.extend_i32_u (local.get $n))))

  (func $add_hex (param $at i32) (param $length i32)
    (loop $next
      (if (local.get $length)
        (then
          (call $add_octet (i32.load8_u (i32.add (i32.const 0x5e0) (i32.shr_u (i32.load8_u (local.get $at)) (i32.const 4)))))
          (call $add_octet (i32.load8_u (i32.add (i32.const 0x5e0) (i32.and (i32.load8_u (local.get $at)) (i32.const 15)))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (local.set $length (i32.sub (local.get $length) (i32.const 1)))
          (br $next)))))

  ;; The header of a field: type << 16 | field, length.
  (func $header (param $what i32) (param $length i32)
    (i32.store align=1 (global.get $out) (local.get $what))
    (i32.store offset=4 align=1 (global.get $out) (local.get $length))
    (global.set $out (i32.add (global.get $out) (i32.const 8))))

  (func $put_bytes (param $field i32) (param $at i32) (param $length i32)
    (call $header (local.get $field) (local.get $length))
    (call $add (local.get $at) (local.get $length)))

  (func $put_text (param $field i32) (param $at i32) (param $length i32)
    (call $put_bytes (i32.or (local.get $field) (i32.const 0x10000)) (local.get $at) (local.get $length)))

  (func $put_uint (param $field i32) (param $n i64)
    (call $header (i32.or (local.get $field) (i32.const 0x20000)) (i32.const 8))
    (i64.store align=1 (global.get $out) (local.get $n))
    (global.set $out (i32.add (global.get $out) (i32.const 8))))

  ;; A message of name (26) and text (27).
  (func $put_pair (param $field i32) (param $name i32) (param $name_length i32) (param $text i32) (param $text_length i32)
    (call $header (i32.or (local.get $field) (i32.const 0x30000))
      (i32.add (i32.const 16) (i32.add (local.get $name_length) (local.get $text_length))))
    (call $put_text (i32.const 26) (local.get $name) (local.get $name_length))
    (call $put_text (i32.const 27) (local.get $text) (local.get $text_length)))

  ;; ---- Replies ----

  ;; Writes the message made at $text_here as the reply, and returns the verdict;
  ;; what cannot be written is a failure.
  (func $reply (param $verdict i32) (result i32)
    (local $size i32)
    (local.set $size (call $write (i32.const 0) (call $made_text)))
    (select (local.get $size) (local.get $verdict) (i32.lt_s (local.get $size) (i32.const 0))))

  ;; Replies with one field of text, without a copy of it.
  (func $reply_text (param $verdict i32) (param $field i32) (param $at i32) (param $length i32) (result i32)
    (local $size i32)
    (i32.store (i32.const 0) (i32.or (local.get $field) (i32.const 0x10000)))
    (i32.store (i32.const 4) (local.get $length))
    (local.set $size (call $write (i32.const 0) (i32.const 0) (i32.const 8)))
    (if (i32.lt_s (local.get $size) (i32.const 0)) (then (return (local.get $size))))
    (local.set $size (call $write (i32.const 0) (local.get $at) (local.get $length)))
    (select (local.get $size) (local.get $verdict) (i32.lt_s (local.get $size) (i32.const 0))))

  ;; Deny (2) with a reason (121).
  (func $say (param $at i32) (param $length i32) (result i32)
    (call $reply_text (i32.const 2) (i32.const 121) (local.get $at) (local.get $length)))

  (func $say_made (result i32) (call $say (call $made_text)))

  (func $say_number (param $n i64) (result i32)
    (call $text_here)
    (call $add_decimal (local.get $n))
    (call $say_made))

  (func $say_signed (param $n i32) (result i32)
    (call $text_here)
    (call $add_signed (local.get $n))
    (call $say_made))

  (func $say_if (param $good i32) (result i32)
    (if (local.get $good) (then (return (call $say (i32.const 0x470) (i32.const 2)))))
    (call $say (i32.const 0x480) (i32.const 3)))

  ;; ok, or the error in decimal.
  (func $ok_or (param $error i32) (result i32)
    (if (i32.lt_s (local.get $error) (i32.const 0)) (then (return (call $say_signed (local.get $error)))))
    (call $say_if (i32.const 1)))

  ;; ---- Services ----

  ;; Asks a service with the message made at $request_here, and reads its result to
  ;; 0x50000. Returns the result's length, or an error.
  (func $ask (param $service i32) (result i32)
    (local $size i32)
    (local.set $size (call $call (local.get $service) (call $made_request)))
    (if (i32.gt_s (local.get $size) (i32.const 0x20000)) (then (return (i32.const -5))))
    (if (i32.gt_s (local.get $size) (i32.const 0))
      (then (drop (call $read (i32.const 2) (i32.const 0) (i32.const 0x50000) (local.get $size)))))
    (local.get $size))

  ;; The same, with a request of one text.
  (func $ask_text (param $service i32) (param $field i32) (param $at i32) (param $length i32) (result i32)
    (call $request_here)
    (call $put_text (local.get $field) (local.get $at) (local.get $length))
    (call $ask (local.get $service)))

  ;; Copies the request of this call to 0x10000.
  (func $begin (param $length i32)
    (if (i32.gt_u (local.get $length) (i32.const 0x20000)) (then unreachable))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 0x10000) (local.get $length)))
    (global.set $request (local.get $length)))

  ;; ---- One function per user name that needs more than a line ----

  (func $password (result i32)
    (call $text_here)
    (call $add (call $text (i32.const 7)))
    (call $add_octet (i32.const 58)) ;; :
    (call $add (call $param (i32.const 0x400) (i32.const 6)))
    (call $reply_text (i32.const 1) (i32.const 101) (call $made_text)))

  (func $authenticated (result i32)
    (call $text_here)
    (call $put_uint (i32.const 102) (i64.const 1))
    (call $put_uint (i32.const 104) (i64.const 60000))
    (call $put_pair (i32.const 25) (i32.const 0x320) (i32.const 5) (i32.const 0x490) (i32.const 5)) ;; group = staff
    (call $put_pair (i32.const 25) (i32.const 0x4a0) (i32.const 5) (i32.const 0x4b0) (i32.const 4)) ;; color = blue
    (call $reply (i32.const 1)))

  (func $limits (result i32)
    (call $text_here)
    (call $put_uint (i32.const 102) (i64.const 1))
    (call $put_text (i32.const 8) (call $param (i32.const 0x672) (i32.const 8))) ;; username
    (call $put_uint (i32.const 105) (i64.const 1))
    (call $put_uint (i32.const 106) (i64.const 2))
    (call $put_uint (i32.const 107) (i64.const 3))
    (call $put_uint (i32.const 108) (i64.const 4))
    (call $put_uint (i32.const 109) (i64.const 5))
    (call $put_uint (i32.const 111) (i64.const 6))
    (call $reply (i32.const 1)))

  (func $deny (result i32)
    (call $text_here)
    (call $put_uint (i32.const 120) (i64.const 404))
    (call $put_text (i32.const 121) (i32.const 0x4c0) (i32.const 12))
    (call $reply (i32.const 2)))

  (func $field (result i32)
    (local $row i32)
    (local.set $row (i32.const 0x600))
    (loop $next
      (if (i32.load8_u (local.get $row))
        (then
          (if (call $equal
                (call $param (i32.const 0x170) (i32.const 5))
                (i32.add (local.get $row) (i32.const 2)) (i32.load8_u (local.get $row)))
            (then (return (call $say (call $text (i32.load8_u offset=1 (local.get $row)))))))
          (local.set $row (i32.add (local.get $row) (i32.const 16)))
          (br $next))))
    (i32.const -3))

  (func $deadline (result i32)
    (local $us i64)
    (local.set $us (call $number (i32.const 0x10000) (global.get $request) (i32.const 18)))
    (call $say_if (i64.le_u (i64.sub (local.get $us) (i64.const 1)) (i64.const 59999999))))

  ;; All values of parameter item.
  (func $list (result i32)
    (local $at i32) (local $end i32) (local $v i32) (local $n i32)
    (call $text_here)
    (local.set $at (i32.const 0x10000))
    (local.set $end (i32.add (local.get $at) (global.get $request)))
    (loop $next
      (if (i32.lt_u (local.get $at) (local.get $end))
        (then
          (call $value (local.get $at) (local.get $end))
          (local.set $n)
          (local.set $v)
          (if (i32.eq (i32.load align=1 (local.get $at)) (i32.const 0x30013)) ;; param
            (then
              (if (call $equal (call $get (local.get $v) (local.get $n) (i32.const 0x1001a)) (i32.const 0x410) (i32.const 4))
                (then
                  (call $add (call $get (local.get $v) (local.get $n) (i32.const 0x1001b)))
                  (call $add_octet (i32.const 59)))))) ;; ;
          (local.set $at (i32.add (local.get $v) (local.get $n)))
          (br $next))))
    (call $say_made))

  (func $config (result i32)
    (local $size i32)
    (local.set $size (call $read (i32.const 3) (i32.const 0) (i32.const 0x50000) (i32.const 0x20000)))
    (if (i32.gt_u (local.get $size) (i32.const 0x20000)) (then (return (call $say_signed (i32.const -5)))))
    (call $say (i32.const 0x50000) (local.get $size)))

  (func $log_lines (result i32)
    (local $level i32)
    (loop $next
      (local.set $level (i32.add (local.get $level) (i32.const 1)))
      (i32.store8 (i32.const 0x4e6) (i32.add (local.get $level) (i32.const 48)))
      (call $log (local.get $level) (i32.const 0x4e0) (i32.const 7))
      (br_if $next (i32.lt_u (local.get $level) (i32.const 4))))
    (i32.const 0))

  (func $time (result i32)
    (local $size i32)
    (call $request_here)
    (local.set $size (call $ask (i32.const 1)))
    (if (i32.lt_s (local.get $size) (i32.const 0)) (then (return (call $say_signed (local.get $size)))))
    (call $say_if (i64.gt_u (call $number (i32.const 0x50000) (local.get $size) (i32.const 204)) (i64.const 1600000000000000000))))

  (func $random (result i32)
    (local $size i32) (local $n i32)
    (call $request_here)
    (call $put_uint (i32.const 205) (i64.const 16))
    (local.set $size (call $ask (i32.const 2)))
    (if (i32.lt_s (local.get $size) (i32.const 0)) (then (return (call $say_signed (local.get $size)))))
    (call $get (i32.const 0x50000) (local.get $size) (i32.const 212)) ;; data, whose type is 0
    (local.set $n)
    (drop)
    (call $say_number (i64.extend_i32_u (local.get $n))))

  ;; A request with key (200) = param(key) and value (201) = param(value).
  (func $entry
    (call $request_here)
    (call $put_text (i32.const 200) (call $param (i32.const 0x420) (i32.const 3)))
    (call $put_bytes (i32.const 201) (call $param (i32.const 0x430) (i32.const 5))))

  (func $ask_key (param $service i32) (result i32)
    (call $ask_text (local.get $service) (i32.const 200) (call $param (i32.const 0x420) (i32.const 3))))

  (func $kv_set (result i32)
    (local $at i32) (local $n i32)
    (call $entry)
    (call $param (i32.const 0x440) (i32.const 3))
    (local.set $n)
    (local.set $at)
    (if (local.get $n) (then (call $put_uint (i32.const 202) (call $parse (local.get $at) (local.get $n)))))
    (call $ok_or (call $ask (i32.const 4))))

  (func $kv_get (result i32)
    (local $size i32)
    (local.set $size (call $ask_key (i32.const 3)))
    (if (i32.lt_s (local.get $size) (i32.const 0)) (then (return (call $say_signed (local.get $size)))))
    (call $say (call $get (i32.const 0x50000) (local.get $size) (i32.const 201))))

  (func $kv_incr (result i32)
    (local $size i32)
    (call $request_here)
    (call $put_text (i32.const 200) (call $param (i32.const 0x420) (i32.const 3)))
    (call $put_uint (i32.const 205) (i64.const 5))
    (local.set $size (call $ask (i32.const 6)))
    (if (i32.lt_s (local.get $size) (i32.const 0)) (then (return (call $say_signed (local.get $size)))))
    (call $say_number (call $number (i32.const 0x50000) (local.get $size) (i32.const 205))))

  (func $kv_cas (result i32)
    (local $size i32) (local $version i64)
    (local.set $size (call $ask_key (i32.const 3)))
    (if (i32.ge_s (local.get $size) (i32.const 0))
      (then (local.set $version (call $number (i32.const 0x50000) (local.get $size) (i32.const 203))))
      (else
        (if (i32.ne (local.get $size) (i32.const -4)) ;; NOENT
          (then (return (call $say_signed (local.get $size)))))))
    (call $entry)
    (call $put_uint (i32.const 203) (local.get $version))
    (local.set $size (call $ask (i32.const 8)))
    (if (i32.lt_s (local.get $size) (i32.const 0)) (then (return (call $say_signed (local.get $size)))))
    (call $say_if (i32.eq (call $ask (i32.const 8)) (i32.const -9)))) ;; the same request again: CONFLICT

  (func $metric (result i32)
    (local $error i32)
    (call $request_here)
    (call $put_text (i32.const 26) (i32.const 0x4f0) (i32.const 13))
    (call $put_text (i32.const 206) (i32.const 0x500) (i32.const 7))
    (call $put_uint (i32.const 205) (i64.const 2))
    (call $put_pair (i32.const 207) (i32.const 0x4a0) (i32.const 5) (i32.const 0x4b0) (i32.const 4))
    (local.set $error (call $ask (i32.const 7)))
    (if (i32.lt_s (local.get $error) (i32.const 0)) (then (return (call $say_signed (local.get $error)))))
    (i32.const 0))

  (func $http (result i32)
    (local $size i32)
    (call $request_here)
    (call $put_text (i32.const 10) (i32.const 0x510) (i32.const 3))
    (call $put_text (i32.const 9) (call $param (i32.const 0x450) (i32.const 3)))
    (call $put_pair (i32.const 208) (i32.const 0x520) (i32.const 9) (i32.const 0x530) (i32.const 3))
    (local.set $size (call $ask (i32.const 9)))
    (if (i32.lt_s (local.get $size) (i32.const 0)) (then (return (call $say_signed (local.get $size)))))
    (call $text_here)
    (call $add_decimal (call $number (i32.const 0x50000) (local.get $size) (i32.const 120)))
    (call $add_octet (i32.const 32))
    (call $add (call $get (i32.const 0x50000) (local.get $size) (i32.const 209)))
    (call $say_made))

  (func $session (result i32)
    (local $size i32)
    (call $request_here)
    (call $put_text (i32.const 26) (i32.const 0x540) (i32.const 4))
    (call $put_text (i32.const 27) (call $text (i32.const 7)))
    (local.set $size (call $ask (i32.const 11)))
    (if (i32.lt_s (local.get $size) (i32.const 0)) (then (return (call $say_signed (local.get $size)))))
    (local.set $size (call $ask_text (i32.const 10) (i32.const 26) (i32.const 0x540) (i32.const 4)))
    (if (i32.lt_s (local.get $size) (i32.const 0)) (then (return (call $say_signed (local.get $size)))))
    (if (i32.eqz (call $equal (call $get (i32.const 0x50000) (local.get $size) (i32.const 0x1001b)) (call $text (i32.const 7))))
      (then (return (call $say_if (i32.const 0)))))
    (call $text_here)
    (call $put_uint (i32.const 102) (i64.const 1))
    (call $reply (i32.const 1)))

  (func $feature (result i32)
    (local $size i32)
    (call $request_here)
    (call $put_uint (i32.const 210) (call $parse (call $param (i32.const 0x460) (i32.const 2))))
    (local.set $size (call $ask (i32.const 0)))
    (if (i32.lt_s (local.get $size) (i32.const 0)) (then (return (call $say_signed (local.get $size)))))
    (call $say_number (call $number (i32.const 0x50000) (local.get $size) (i32.const 211))))

  (func $hash (result i32)
    (local $size i32)
    (call $text_here)
    (call $add (call $text (i32.const 8)))
    (call $add_octet (i32.const 58)) ;; :
    (call $add (call $text (i32.const 7)))
    (call $add (i32.const 0x580) (i32.const 7))
    (local.set $size (i32.sub (global.get $out) (i32.const 0x70000)))
    (call $request_here)
    (call $put_text (i32.const 20) (i32.const 0x560) (i32.const 3))
    (call $put_bytes (i32.const 212) (i32.const 0x70000) (local.get $size))
    (local.set $size (call $ask (i32.const 13)))
    (if (i32.lt_s (local.get $size) (i32.const 0)) (then (return (call $say_signed (local.get $size)))))
    (call $text_here)
    (call $add_hex (call $get (i32.const 0x50000) (local.get $size) (i32.const 214)))
    (call $reply_text (i32.const 1) (i32.const 100) (call $made_text)))

  (func $hmac (result i32)
    (local $size i32) (local $at i32)
    (call $request_here)
    (call $put_text (i32.const 20) (i32.const 0x570) (i32.const 7))
    (call $put_bytes (i32.const 212) (i32.const 0x5c0) (i32.const 28))
    (call $put_bytes (i32.const 213) (i32.const 0x590) (i32.const 4))
    (local.set $size (call $ask (i32.const 13)))
    (if (i32.lt_s (local.get $size) (i32.const 0)) (then (return (call $say_signed (local.get $size)))))
    (call $get (i32.const 0x50000) (local.get $size) (i32.const 214))
    (drop)
    (local.set $at)
    (call $text_here)
    (call $add_hex (local.get $at) (i32.const 8))
    (call $say_made))

  (func $big (result i32)
    (local $left i32) (local $size i32)
    (local.set $left (i32.const 1000))
    (call $text_here)
    (call $put_bytes (i32.const 0x8001) (i32.const 0x50000) (i32.const 1024))
    (loop $next
      (local.set $size (call $write (i32.const 0) (call $made_text)))
      (if (i32.eq (local.get $size) (i32.const -5)) (then (return (i32.const -6)))) ;; TOOBIG
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $next (i32.and (i32.ge_s (local.get $size) (i32.const 0)) (i32.gt_s (local.get $left) (i32.const 0)))))
    (i32.const 0))

  ;; Whether the user is who is at $name.
  (func $is (param $name i32) (param $length i32) (result i32)
    (call $equal (call $text (i32.const 8)) (local.get $name) (local.get $length)))

  ;; ---- Exports ----

  (func (export "parley_abi") (result i32) (i32.const 0x10000)) ;; 1.0

  (func (export "on_load") (param $length i32) (result i32)
    (local $size i32)
    (global.set $loaded (local.get $length))
    (local.set $size (call $read (i32.const 3) (i32.const 0) (i32.const 0x50000) (i32.const 0x20000)))
    (if (i32.gt_u (local.get $size) (i32.const 0x20000)) (then (return (i32.const -5))))
    (if (i32.lt_u (local.get $size) (i32.const 7)) (then (return (i32.const 0))))
    (if (call $equal (i32.const 0x50000) (i32.const 7) (i32.const 0x5b0) (i32.const 7)) ;; refuse:
      (then (return (call $reply_text (i32.const -1) (i32.const 121) (i32.const 0x50007) (i32.sub (local.get $size) (i32.const 7))))))
    (i32.const 0))

  (func (export "on_authenticate") (param $length i32) (result i32)
    (call $begin (local.get $length))
    (if (call $is (i32.const 0x100) (i32.const 3)) ;; ha1
      (then (return (call $reply_text (i32.const 1) (i32.const 100) (call $param (i32.const 0x100) (i32.const 3))))))
    (if (call $is (i32.const 0x110) (i32.const 8)) (then (return (call $password))))
    (if (call $is (i32.const 0x120) (i32.const 13)) (then (return (call $authenticated))))
    (if (call $is (i32.const 0x5f0) (i32.const 6)) (then (return (call $limits))))
    (if (call $is (i32.const 0x130) (i32.const 4)) (then (return (call $deny))))
    (if (call $is (i32.const 0x140) (i32.const 10)) (then (return (i32.const 2)))) ;; deny-plain
    (if (call $is (i32.const 0x150) (i32.const 4)) ;; fail
      (then (return (call $reply_text (i32.const -5) (i32.const 121) (i32.const 0x4d0) (i32.const 16)))))
    (if (call $is (i32.const 0x160) (i32.const 7)) (then (return (i32.const 77)))) ;; strange
    (if (call $is (i32.const 0x170) (i32.const 5)) (then (return (call $field))))
    (if (call $is (i32.const 0x180) (i32.const 8)) (then (return (call $deadline))))
    (if (call $is (i32.const 0x190) (i32.const 4)) (then (return (call $list))))
    (if (call $is (i32.const 0x1a0) (i32.const 6)) (then (return (call $config))))
    (if (call $is (i32.const 0x1b0) (i32.const 6)) ;; loaded
      (then (return (call $say_number (i64.extend_i32_u (global.get $loaded))))))
    (if (call $is (i32.const 0x1c0) (i32.const 3)) (then (return (call $log_lines))))
    (if (call $is (i32.const 0x1d0) (i32.const 5)) ;; count
      (then
        (global.set $count (i64.add (global.get $count) (i64.const 1)))
        (return (call $say_number (global.get $count)))))
    (if (call $is (i32.const 0x1e0) (i32.const 4)) (then (return (call $time))))
    (if (call $is (i32.const 0x1f0) (i32.const 6)) (then (return (call $random))))
    (if (call $is (i32.const 0x200) (i32.const 6)) (then (return (call $kv_set))))
    (if (call $is (i32.const 0x210) (i32.const 6)) (then (return (call $kv_get))))
    (if (call $is (i32.const 0x220) (i32.const 6)) ;; kv-del
      (then (return (call $ok_or (call $ask_key (i32.const 5))))))
    (if (call $is (i32.const 0x230) (i32.const 7)) (then (return (call $kv_incr))))
    (if (call $is (i32.const 0x240) (i32.const 6)) (then (return (call $kv_cas))))
    (if (call $is (i32.const 0x250) (i32.const 6)) (then (return (call $metric))))
    (if (call $is (i32.const 0x260) (i32.const 4)) (then (return (call $http))))
    (if (call $is (i32.const 0x270) (i32.const 7)) (then (return (call $session))))
    (if (call $is (i32.const 0x280) (i32.const 12)) ;; session-none
      (then (return (call $ok_or (call $ask_text (i32.const 10) (i32.const 26) (i32.const 0x550) (i32.const 7))))))
    (if (call $is (i32.const 0x290) (i32.const 7)) (then (return (call $feature))))
    (if (call $is (i32.const 0x2a0) (i32.const 5)) ;; nosys
      (then (return (call $ok_or (call $call (i32.const 9999) (i32.const 0) (i32.const 0))))))
    (if (call $is (i32.const 0x2b0) (i32.const 4)) (then (return (call $hash))))
    (if (call $is (i32.const 0x2c0) (i32.const 4)) (then (return (call $hmac))))
    (if (call $is (i32.const 0x2d0) (i32.const 3)) (then (return (call $big))))
    (if (call $is (i32.const 0x2e0) (i32.const 4)) ;; body: with capacity 0 read tells the size
      (then (return (call $say_signed (call $read (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0))))))
    (if (call $is (i32.const 0x2f0) (i32.const 4)) (then unreachable)) ;; trap
    (i32.const 0))

  (func (export "on_select_interface") (param $length i32) (result i32)
    (local $at i32) (local $end i32) (local $v i32) (local $n i32)
    (local $first i32) (local $first_length i32) (local $last i32) (local $last_length i32)
    (call $begin (local.get $length))
    (local.set $at (i32.const 0x10000))
    (local.set $end (i32.add (local.get $at) (global.get $request)))
    (loop $next
      (if (i32.lt_u (local.get $at) (local.get $end))
        (then
          (call $value (local.get $at) (local.get $end))
          (local.set $n)
          (local.set $v)
          (if (i32.eq (i32.load align=1 (local.get $at)) (i32.const 0x3001f)) ;; offer
            (then
              (local.set $last (local.get $v))
              (local.set $last_length (local.get $n))
              (if (i32.eqz (local.get $first))
                (then
                  (local.set $first (local.get $v))
                  (local.set $first_length (local.get $n))))))
          (local.set $at (i32.add (local.get $v) (local.get $n)))
          (br $next))))
    (if (call $is (i32.const 0x300) (i32.const 4)) ;; last
      (then
        (call $text_here)
        (call $put_text (i32.const 110) (call $get (local.get $last) (local.get $last_length) (i32.const 0x1001a)))
        (call $put_text (i32.const 32) (call $get (local.get $last) (local.get $last_length) (i32.const 0x10020)))
        (return (call $reply (i32.const 1)))))
    (if (call $is (i32.const 0x310) (i32.const 4)) ;; mark: host:port:secure, then the reply with it
      (then
        (call $request_here)
        (call $add (call $text (i32.const 28)))
        (call $add_octet (i32.const 58))
        (call $add_decimal (call $number (i32.const 0x10000) (global.get $request) (i32.const 29)))
        (call $add_octet (i32.const 58))
        (call $add_decimal (call $number (i32.const 0x10000) (global.get $request) (i32.const 30)))
        (call $made_request)
        (local.set $n)
        (local.set $v)
        (call $text_here)
        (call $put_text (i32.const 110) (call $get (local.get $first) (local.get $first_length) (i32.const 0x1001a)))
        (call $put_pair (i32.const 25) (i32.const 0x540) (i32.const 4) (local.get $v) (local.get $n))
        (return (call $reply (i32.const 1)))))
    (if (call $is (i32.const 0x320) (i32.const 5)) ;; group
      (then (return (call $reply_text (i32.const 1) (i32.const 110) (call $named (i32.const 25) (i32.const 0x320) (i32.const 5))))))
    (if (call $is (i32.const 0x330) (i32.const 6)) ;; refuse
      (then
        (call $request_here)
        (call $add (i32.const 0x5a0) (i32.const 9))
        (call $add (call $text (i32.const 4)))
        (call $made_request)
        (local.set $n)
        (local.set $v)
        (call $text_here)
        (call $put_uint (i32.const 120) (i64.const 403))
        (call $put_text (i32.const 121) (local.get $v) (local.get $n))
        (return (call $reply (i32.const 2)))))
    (i32.const 0)))
