;; A command, which runs and ends: it exports _start and no more. The host says so and how to build another.
(module
  (memory (export "memory") 1)
  (func (export "_start")))
