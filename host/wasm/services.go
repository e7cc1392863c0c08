package wasm

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"hash"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-msrp/parley/sdk/abi"
)

// A service answers the import call: it reads the request, appends to the
// instance's result and returns 0, or says what is wrong.
type service struct {
	granted func(g *Grants) bool // nil = needs no grant
	cost    int                  // in instructions, beside octets moved
	do      func(i *instance, r abi.Reader) abi.Errno
}

func kvGranted(g *Grants) bool { return g.KV }

// services is filled in by init, as feature looks into it.
var services map[abi.Service]service

func init() {
	services = map[abi.Service]service{
		abi.ServiceFeature:    {nil, 0, (*instance).feature},
		abi.ServiceTime:       {func(g *Grants) bool { return g.Clock }, 100, (*instance).time},
		abi.ServiceRandom:     {func(g *Grants) bool { return g.Random }, 1000, (*instance).random},
		abi.ServiceKVGet:      {kvGranted, 500, (*instance).kvGet},
		abi.ServiceKVSet:      {kvGranted, 2000, (*instance).kvSet},
		abi.ServiceKVDel:      {kvGranted, 1000, (*instance).kvDel},
		abi.ServiceKVIncr:     {kvGranted, 2000, (*instance).kvIncr},
		abi.ServiceKVCAS:      {kvGranted, 2000, (*instance).kvCAS},
		abi.ServiceMetric:     {nil, 1000, (*instance).metric},
		abi.ServiceHTTP:       {func(g *Grants) bool { return len(g.HTTP) > 0 }, 100_000, (*instance).httpDo},
		abi.ServiceSessionGet: {nil, 100, (*instance).sessionGet},
		abi.ServiceSessionSet: {nil, 100, (*instance).sessionSet},
		abi.ServiceHash:       {nil, 1000, (*instance).hash},
	}
}

// service asks a service: (service, pointer, length) -> size.
func (i *instance) service(s []uint64) {
	request := i.view("call: request", s[1], s[2])
	i.result = i.result[:0]
	svc, ok := services[abi.Service(uint32(s[0]))]
	switch {
	case !ok:
		errno(s, abi.ErrNoSys)
		return
	case svc.granted != nil && !svc.granted(&i.gen.set.Grants):
		errno(s, abi.ErrPerm)
		return
	case len(request) > i.gen.set.Message:
		errno(s, abi.ErrTooBig)
		return
	}
	i.charge(svc.cost + len(request)) // it will be parsed
	if e := svc.do(i, abi.Read(request)); e != 0 {
		i.result = i.result[:0]
		errno(s, e)
		return
	}
	if len(i.result) > i.gen.set.Message {
		i.result = i.result[:0]
		errno(s, abi.ErrTooBig)
		return
	}
	result(s, len(i.result))
}

func (i *instance) feature(r abi.Reader) abi.Errno {
	var op uint64
	for r.Next() {
		if r.Field == abi.FieldOp {
			op = r.Uint()
		}
	}
	if r.Err() != nil {
		return abi.ErrInval
	}
	granted := uint64(0)
	if svc, ok := services[abi.Service(op)]; ok && op <= math.MaxUint32 && (svc.granted == nil || svc.granted(&i.gen.set.Grants)) {
		granted = 1
	}
	i.result = abi.AppendUint(i.result, abi.FieldGranted, granted)
	return 0
}

func (i *instance) time(abi.Reader) abi.Errno {
	i.result = abi.AppendUint(i.result, abi.FieldTimeNS, uint64(time.Now().UnixNano()))
	return 0
}

func (i *instance) random(r abi.Reader) abi.Errno {
	var n uint64
	for r.Next() {
		if r.Field == abi.FieldCount {
			n = r.Uint()
		}
	}
	if r.Err() != nil || n > 4096 {
		return abi.ErrInval
	}
	i.charge(int(n))
	var b [4096]byte
	_, _ = rand.Read(b[:n]) // never fails
	i.result = abi.AppendBytes(i.result, abi.FieldData, b[:n])
	return 0
}

// kv is the request of the services of the store.
type kv struct {
	key            string
	value          []byte
	count, version uint64
	ttl            time.Duration
}

func readKV(r abi.Reader) (q kv, ok bool) {
	for r.Next() {
		switch r.Field {
		case abi.FieldKey:
			q.key = string(r.Text())
		case abi.FieldValue:
			q.value = r.Bytes()
		case abi.FieldCount:
			q.count = r.Uint()
		case abi.FieldVersion:
			q.version = r.Uint()
		case abi.FieldTTLMS:
			q.ttl = time.Duration(min(r.Uint(), uint64(math.MaxInt64/time.Millisecond))) * time.Millisecond
		}
	}
	return q, r.Err() == nil && q.key != ""
}

func (i *instance) kvGet(r abi.Reader) abi.Errno {
	q, ok := readKV(r)
	if !ok {
		return abi.ErrInval
	}
	e, ok := i.gen.plugin.store.get(q.key)
	if !ok {
		return abi.ErrNoEnt
	}
	i.charge(len(e.value) / octetsPerStep)
	i.result = abi.AppendBytes(i.result, abi.FieldValue, e.value)
	i.result = abi.AppendUint(i.result, abi.FieldVersion, e.version)
	return 0
}

func (i *instance) kvSet(r abi.Reader) abi.Errno {
	q, ok := readKV(r)
	if !ok {
		return abi.ErrInval
	}
	return i.written(i.gen.plugin.store.set(q.key, bytes.Clone(q.value), q.ttl))
}

func (i *instance) kvCAS(r abi.Reader) abi.Errno {
	q, ok := readKV(r)
	if !ok {
		return abi.ErrInval
	}
	return i.written(i.gen.plugin.store.cas(q.key, bytes.Clone(q.value), q.version, q.ttl))
}

func (i *instance) written(version uint64, e abi.Errno) abi.Errno {
	i.result = abi.AppendUint(i.result, abi.FieldVersion, version)
	return e
}

func (i *instance) kvDel(r abi.Reader) abi.Errno {
	q, ok := readKV(r)
	if !ok {
		return abi.ErrInval
	}
	return i.gen.plugin.store.delete(q.key)
}

func (i *instance) kvIncr(r abi.Reader) abi.Errno {
	q, ok := readKV(r)
	if !ok {
		return abi.ErrInval
	}
	n, version, e := i.gen.plugin.store.incr(q.key, q.count, q.ttl)
	i.result = abi.AppendUint(i.result, abi.FieldCount, n)
	return i.written(version, e)
}

func (i *instance) sessionGet(r abi.Reader) abi.Errno {
	var name []byte
	for r.Next() {
		if r.Field == abi.FieldName {
			name = r.Text()
		}
	}
	if r.Err() != nil || len(name) == 0 {
		return abi.ErrInval
	}
	var text []byte
	found := false
	look := func(m []byte) {
		i.charge(len(m))
		for r := abi.Read(m); r.Next(); {
			if r.Field != abi.FieldAttribute {
				continue
			}
			if n, t := r.Pair(); bytes.Equal(n, name) {
				text, found = t, true
			}
		}
	}
	if i.call != nil {
		look(i.call.Request)
	}
	look(i.set)
	if !found {
		return abi.ErrNoEnt
	}
	i.result = abi.AppendText(i.result, abi.FieldText, string(text))
	return 0
}

func (i *instance) sessionSet(r abi.Reader) abi.Errno {
	var name, text []byte
	for r.Next() {
		switch r.Field {
		case abi.FieldName:
			name = r.Text()
		case abi.FieldText:
			text = r.Text()
		}
	}
	if r.Err() != nil || len(name) == 0 {
		return abi.ErrInval
	}
	if len(i.set)+len(name)+len(text)+64 > i.gen.set.Message {
		return abi.ErrTooBig
	}
	i.set = abi.AppendPair(i.set, abi.FieldAttribute, string(name), string(text))
	return 0
}

var hashes = map[string]func() hash.Hash{"md5": md5.New, "sha-1": sha1.New, "sha-256": sha256.New}

func (i *instance) hash(r abi.Reader) abi.Errno {
	var algorithm string
	var data, secret []byte
	keyed := false
	for r.Next() {
		switch r.Field {
		case abi.FieldAlgorithm:
			algorithm = string(r.Text())
		case abi.FieldData:
			data = r.Bytes()
		case abi.FieldSecret:
			secret, keyed = r.Bytes(), true
		}
	}
	newHash := hashes[algorithm]
	if r.Err() != nil || newHash == nil {
		return abi.ErrInval
	}
	i.charge(4 * (len(data) + len(secret)))
	h := newHash()
	if keyed {
		h = hmac.New(newHash, secret)
	}
	h.Write(data)
	i.result = abi.AppendBytes(i.result, abi.FieldDigest, h.Sum(nil))
	return 0
}

// What a plugin's metrics may be: series, labels of each, and bytes of names
// and of label values.
const (
	maxSeries    = 100
	maxLabels    = 4
	maxName      = 64
	maxLabelText = 64
)

func (i *instance) metric(r abi.Reader) abi.Errno {
	m := Series{Kind: "counter"}
	var count uint64
	for r.Next() {
		switch r.Field {
		case abi.FieldName:
			m.Name = string(r.Text())
		case abi.FieldKind:
			m.Kind = string(r.Text())
		case abi.FieldCount:
			count = r.Uint()
		case abi.FieldLabel:
			name, text := r.Pair()
			m.Labels = append(m.Labels, [2]string{string(name), string(text)})
		}
		if len(m.Labels) > maxLabels {
			return abi.ErrInval
		}
	}
	if r.Err() != nil || !isName(m.Name) || !slices.Contains([]string{"counter", "gauge", "histogram"}, m.Kind) {
		return abi.ErrInval
	}
	slices.SortFunc(m.Labels, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	for n, l := range m.Labels {
		if !isName(l[0]) || len(l[1]) > maxLabelText || !utf8.ValidString(l[1]) || n > 0 && l[0] == m.Labels[n-1][0] {
			return abi.ErrInval
		}
	}
	return i.gen.plugin.stats.count(m, count)
}

func (s *stats) count(m Series, count uint64) abi.Errno {
	key := fmt.Sprintf("%s%q", m.Name, m.Labels)
	s.mu.Lock()
	defer s.mu.Unlock()
	series := s.series[key]
	switch {
	case s.kinds[m.Name] != "" && s.kinds[m.Name] != m.Kind:
		return abi.ErrInval
	case series == nil && len(s.series) >= maxSeries:
		return abi.ErrAgain
	case series == nil:
		series = &m
		s.series[key], s.kinds[m.Name] = series, m.Kind
	}
	switch m.Kind {
	case "counter":
		series.Value += count
	case "gauge":
		series.Value = count
	default:
		series.Histogram.add(count)
	}
	return 0
}

func isName(s string) bool {
	if s == "" || len(s) > maxName || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for _, c := range []byte(s) {
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}
