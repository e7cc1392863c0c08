package parley

import (
	"time"

	"github.com/parley-msrp/parley/sdk/abi"
)

// Feature reports whether the host knows a service and has granted it.
func Feature(s abi.Service) bool {
	m, err := Call(abi.ServiceFeature, abi.AppendUint(nil, abi.FieldOp, uint64(s)))
	return err == nil && m.Uint(abi.FieldGranted) == 1
}

// Time returns the time, in UTC. It needs grant clock; so does [time.Now], which
// without it goes by a made-up clock instead of failing.
func Time() (time.Time, error) {
	m, err := Call(abi.ServiceTime, nil)
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(0, int64(m.Uint(abi.FieldTimeNS))).UTC(), nil
}

// Random returns n octets, at most 4096, fit for keys. It needs grant random; so
// does crypto/rand, which without it yields the same octets each time.
func Random(n int) ([]byte, error) {
	if n < 0 {
		return nil, abi.ErrInval
	}
	m, err := Call(abi.ServiceRandom, abi.AppendUint(nil, abi.FieldCount, uint64(n)))
	return m.Bytes(abi.FieldData), err
}

// An Entry is one of the plugin's store, which all its instances share and which
// survives reloads. The store needs grant kv.
type Entry struct {
	Value   []byte
	Version uint64 // another with each write; 0 = there is no entry
}

// KVGet reads an entry. ErrNoEnt: there is none.
func KVGet(key string) (Entry, error) {
	m, err := Call(abi.ServiceKVGet, abi.AppendText(nil, abi.FieldKey, key))
	return Entry{m.Bytes(abi.FieldValue), m.Uint(abi.FieldVersion)}, err
}

// KVSet writes an entry, which lives for ttl; 0 = until the store is full and it
// is the one longest unused.
func KVSet(key string, value []byte, ttl time.Duration) error {
	b, err := appendTTL(abi.AppendText(nil, abi.FieldKey, key), ttl)
	if err == nil {
		_, err = Call(abi.ServiceKVSet, abi.AppendBytes(b, abi.FieldValue, value))
	}
	return err
}

// KVCAS writes an entry if it still has the version that KVGet has returned, or,
// with version 0, if there is none. It returns the new version. ErrConflict:
// somebody else was first.
func KVCAS(key string, value []byte, version uint64, ttl time.Duration) (uint64, error) {
	b, err := appendTTL(abi.AppendText(nil, abi.FieldKey, key), ttl)
	if err != nil {
		return 0, err
	}
	b = abi.AppendUint(abi.AppendBytes(b, abi.FieldValue, value), abi.FieldVersion, version)
	m, err := Call(abi.ServiceKVCAS, b)
	return m.Uint(abi.FieldVersion), err
}

// KVDel removes an entry. ErrNoEnt: there was none.
func KVDel(key string) error {
	_, err := Call(abi.ServiceKVDel, abi.AppendText(nil, abi.FieldKey, key))
	return err
}

// KVIncr adds by to an entry that is a counter, and returns it. One that is not
// there begins as 0, and lives for ttl from then on. ErrInval: the entry is no
// counter.
func KVIncr(key string, by int64, ttl time.Duration) (int64, error) {
	b, err := appendTTL(abi.AppendText(nil, abi.FieldKey, key), ttl)
	if err != nil {
		return 0, err
	}
	m, err := Call(abi.ServiceKVIncr, abi.AppendUint(b, abi.FieldCount, uint64(by)))
	return int64(m.Uint(abi.FieldCount)), err
}

// appendTTL appends a lifetime, which must not become endless by being rounded
// down or by being over already.
func appendTTL(b []byte, ttl time.Duration) ([]byte, error) {
	switch {
	case ttl < 0:
		return nil, abi.ErrInval
	case ttl == 0:
		return b, nil
	}
	return abi.AppendUint(b, abi.FieldTTLMS, Millis(ttl)), nil
}

// Millis returns d in milliseconds, rounded up; at least 1, since 0 stands for no
// bound in all fields.
func Millis(d time.Duration) uint64 {
	ms := d / time.Millisecond
	if d%time.Millisecond > 0 {
		ms++
	}
	return uint64(max(1, ms))
}

// Count adds n to a counter of the host's metrics. Labels are names and values in
// turn, up to 4 of each: Count("lookups_total", 1, "result", "hit").
func Count(name string, n uint64, labels ...string) error {
	return metric(name, "counter", n, labels)
}

// Gauge sets a gauge.
func Gauge(name string, value uint64, labels ...string) error {
	return metric(name, "gauge", value, labels)
}

// Observe adds a value to a histogram.
func Observe(name string, value uint64, labels ...string) error {
	return metric(name, "histogram", value, labels)
}

func metric(name, kind string, n uint64, labels []string) error {
	if len(labels)%2 != 0 {
		return abi.ErrInval
	}
	b := abi.AppendText(nil, abi.FieldName, name)
	b = abi.AppendText(b, abi.FieldKind, kind)
	b = abi.AppendUint(b, abi.FieldCount, n)
	for i := 0; i < len(labels); i += 2 {
		b = abi.AppendPair(b, abi.FieldLabel, labels[i], labels[i+1])
	}
	_, err := Call(abi.ServiceMetric, b)
	return err
}

// An HTTPRequest is what a web service is asked.
type HTTPRequest struct {
	Method string // default GET
	URL    string // must begin with one that is granted
	Header []Pair
	Body   []byte
}

// An HTTPResponse is its answer.
type HTTPResponse struct {
	Status int
	Header []Pair
	Body   []byte
}

// HTTP asks a web service and waits, at most until the call's deadline
// (ErrTimedOut). It needs grant http for the URL (ErrPerm). Redirects are not
// followed. Any status is an answer, not an error.
func HTTP(r HTTPRequest) (HTTPResponse, error) {
	if r.Method == "" {
		r.Method = "GET"
	}
	b := abi.AppendText(nil, abi.FieldMethod, r.Method)
	b = abi.AppendText(b, abi.FieldURI, r.URL)
	for _, h := range r.Header {
		b = abi.AppendPair(b, abi.FieldHeader, h.Name, h.Text)
	}
	if len(r.Body) > 0 {
		b = abi.AppendBytes(b, abi.FieldBody, r.Body)
	}
	m, err := Call(abi.ServiceHTTP, b)
	if err != nil {
		return HTTPResponse{}, err
	}
	return HTTPResponse{int(m.Uint(abi.FieldStatus)), m.Pairs(abi.FieldHeader), m.Bytes(abi.FieldBody)}, nil
}

// SessionGet returns an attribute of the session that this call is about, with
// what this call has set. ErrNoEnt: there is none.
func SessionGet(name string) (string, error) {
	m, err := Call(abi.ServiceSessionGet, abi.AppendText(nil, abi.FieldName, name))
	return m.Text(abi.FieldText), err
}

// SessionSet sets an attribute, as one in the reply does. It counts if this
// call's verdict is done.
func SessionSet(name, text string) error {
	b := abi.AppendText(nil, abi.FieldName, name)
	_, err := Call(abi.ServiceSessionSet, abi.AppendText(b, abi.FieldText, text))
	return err
}

// Algorithms of Hash and HMAC.
const (
	MD5    = "md5"
	SHA1   = "sha-1"
	SHA256 = "sha-256"
)

// Hash hashes data. The host does, which keeps plugins small.
func Hash(algorithm string, data []byte) ([]byte, error) {
	b := abi.AppendText(nil, abi.FieldAlgorithm, algorithm)
	m, err := Call(abi.ServiceHash, abi.AppendBytes(b, abi.FieldData, data))
	return m.Bytes(abi.FieldDigest), err
}

// HMAC returns the HMAC of data under a key.
func HMAC(algorithm string, key, data []byte) ([]byte, error) {
	b := abi.AppendText(nil, abi.FieldAlgorithm, algorithm)
	b = abi.AppendBytes(b, abi.FieldSecret, key)
	m, err := Call(abi.ServiceHash, abi.AppendBytes(b, abi.FieldData, data))
	return m.Bytes(abi.FieldDigest), err
}
