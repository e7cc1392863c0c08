package wasm

import (
	"encoding/binary"
	"math"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/parley-msrp/parley/sdk/abi"
)

// A store keeps what a plugin wants to share among its instances and have after
// a reload. It is bounded in bytes: what was unused longest goes first.
type store struct {
	bounds  Store
	cache   *otter.Cache[string, entry]
	version atomic.Uint64
}

type entry struct {
	value   []byte // never changed
	version uint64
	ttl     time.Duration // since the write; 0 = for ever
	keep    bool          // an update that leaves the end as it was
}

// entryOverhead is what an entry costs beside key and value, about, in bytes.
const entryOverhead = 128

func newStore(b Store) *store {
	return &store{bounds: b, cache: otter.Must(&otter.Options[string, entry]{
		MaximumWeight: uint64(b.Size),
		Weigher: func(k string, e entry) uint32 {
			return uint32(min(len(k)+len(e.value)+entryOverhead, math.MaxUint32))
		},
		ExpiryCalculator: expiry{},
	})}
}

// expiry is an otter.ExpiryCalculator.
type expiry struct{}

func (expiry) ExpireAfterCreate(e otter.Entry[string, entry]) time.Duration {
	if e.Value.ttl > 0 {
		return e.Value.ttl
	}
	return math.MaxInt64
}

func (x expiry) ExpireAfterUpdate(e otter.Entry[string, entry], _ entry) time.Duration {
	if e.Value.keep {
		return e.ExpiresAfter()
	}
	return x.ExpireAfterCreate(e)
}

func (expiry) ExpireAfterRead(e otter.Entry[string, entry]) time.Duration { return e.ExpiresAfter() }

// fits returns 0 if an entry can be kept.
func (s *store) fits(key string, value []byte) abi.Errno {
	switch {
	case key == "":
		return abi.ErrInval
	case len(key) > s.bounds.Key || len(value) > s.bounds.Value, int64(len(key)+len(value)+entryOverhead) > s.bounds.Size:
		return abi.ErrTooBig
	}
	return 0
}

func (s *store) get(key string) (entry, bool) { return s.cache.GetIfPresent(key) }

func (s *store) set(key string, value []byte, ttl time.Duration) (uint64, abi.Errno) {
	if e := s.fits(key, value); e != 0 {
		return 0, e
	}
	e := entry{value: value, version: s.version.Add(1), ttl: ttl}
	s.cache.Set(key, e)
	return e.version, 0
}

// cas writes if the entry has this version; 0 = if there is none.
func (s *store) cas(key string, value []byte, version uint64, ttl time.Duration) (uint64, abi.Errno) {
	if e := s.fits(key, value); e != 0 {
		return 0, e
	}
	next := entry{value: value, version: s.version.Add(1), ttl: ttl}
	conflict := false
	s.cache.Compute(key, func(old entry, found bool) (entry, otter.ComputeOp) {
		if conflict = old.version != version || found != (version != 0); conflict {
			return old, otter.CancelOp
		}
		return next, otter.WriteOp
	})
	if conflict {
		return 0, abi.ErrConflict
	}
	return next.version, 0
}

func (s *store) delete(key string) abi.Errno {
	if _, ok := s.cache.Invalidate(key); !ok {
		return abi.ErrNoEnt
	}
	return 0
}

// incr adds to an entry of 8 octets, which begins as 0.
func (s *store) incr(key string, by uint64, ttl time.Duration) (n, version uint64, e abi.Errno) {
	if e := s.fits(key, make([]byte, 8)); e != 0 {
		return 0, 0, e
	}
	s.cache.Compute(key, func(old entry, found bool) (entry, otter.ComputeOp) {
		if found && len(old.value) != 8 {
			e = abi.ErrInval
			return old, otter.CancelOp
		}
		next := entry{version: s.version.Add(1), ttl: ttl, keep: found}
		n, version = by, next.version
		if found {
			n += binary.LittleEndian.Uint64(old.value)
		}
		next.value = binary.LittleEndian.AppendUint64(nil, n)
		return next, otter.WriteOp
	})
	return n, version, e
}

// close may be called on nil, which a plugin without a store has.
func (s *store) close() {
	if s == nil {
		return
	}
	s.cache.InvalidateAll()
	s.cache.StopAllGoroutines()
}
