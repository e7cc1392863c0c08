// Package parleytest is a host for the tests of plugins: they run on this
// machine, as Go, without WebAssembly.
//
//	func TestGuests(t *testing.T) {
//		h := parleytest.New(t)
//		if err := h.Load(`{"guests": false}`); err != nil {
//			t.Fatal(err)
//		}
//		r := h.Ask(authenticate.Answer, parleytest.Fields{"username": "guest", "param.group": "eu"})
//		if got, want := r.String(), "deny status=403 reason=guests are not allowed"; got != want {
//			t.Errorf("%s, want %s", got, want)
//		}
//	}
//
// The host has every service and grants it, except http, which needs a handler.
// It refuses what a relay would refuse: replies that are malformed, have a field
// of the wrong type, or are too big. It does not count instructions or memory:
// 'parley plugin call' does.
package parleytest

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-msrp/parley/sdk/abi"
	parley "github.com/parley-msrp/parley/sdk/go"
	"github.com/parley-msrp/parley/sdk/go/internal/host"
)

// What the host bounds, in octets, as a relay does without other orders.
const (
	maxMessage = 64 << 10
	maxKey     = 512
	maxValue   = 64 << 10
)

// A Host answers a plugin's imports for one test.
type Host struct {
	// HTTP answers service http, whatever the URL. Nil = not granted.
	HTTP http.Handler
	// Now is the time. It stands still unless the test sets it.
	Now time.Time
	// Errors are what services answer instead of doing anything, such as
	// abi.ErrPerm for one that is not granted.
	Errors map[abi.Service]abi.Errno
	// Lines are what the plugin has logged, each with its level before it, such
	// as "warn no users".
	Lines []string

	t       testing.TB
	loading bool
	config  string
	input   []byte
	reply   []byte
	result  []byte
	set     []byte // attributes that the call has set
	store   map[string]entry
	version uint64
	metrics map[string]uint64
}

type entry struct {
	value   []byte
	version uint64
	end     time.Time // zero = none
}

// New returns the host of a test, and takes it back at the test's end. There is
// one at a time, so the test cannot be parallel.
func New(t testing.TB) *Host {
	t.Helper()
	t.Setenv("PARLEYTEST", "1") // fails in parallel tests, and makes t.Parallel fail
	h := &Host{
		t: t, Now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), Errors: map[abi.Service]abi.Errno{},
		store: map[string]entry{}, metrics: map[string]uint64{},
	}
	before := host.Fake
	host.Fake = imports{h}
	t.Cleanup(func() { host.Fake = before })
	return h
}

// Load gives the plugin its configuration, as a relay does when it loads it or
// when the configuration has changed. An error is why the plugin refuses it.
func (h *Host) Load(config string) error {
	h.t.Helper()
	h.config = config
	h.begin(nil)
	h.loading = true
	verdict := parley.Load(int32(len(config)))
	h.loading = false
	r := h.end(abi.Verdict(verdict))
	switch {
	case verdict > 0:
		h.t.Errorf("on_load returned %d, not 0", verdict)
	case verdict < 0:
		return errors.New(r.Text(abi.FieldReason))
	}
	return nil
}

// Fields are a request, by the names of sdk/abi/ABI.md: texts, numbers and
// flags. "param.NAME" and "attribute.NAME" are a text, or a []string if a
// parameter is a list; "offer" is a []Fields.
type Fields map[string]any

// A Reply is what a plugin has answered.
type Reply struct {
	Verdict abi.Verdict
	parley.Message
	encoded []byte
}

// String is the reply in one line, fields in the plugin's order, such as
// "done password=secret attribute.group=eu". Verdicts below zero are "fail".
func (r Reply) String() string {
	parts := []string{r.Verdict.String()}
	if r.Verdict < 0 {
		parts[0] = "fail"
	}
	for m := abi.Read(r.encoded); m.Next(); {
		switch m.Type {
		case abi.TypeUint:
			parts = append(parts, fmt.Sprintf("%v=%d", m.Field, m.Uint()))
		case abi.TypeMessage:
			name, text := m.Pair()
			parts = append(parts, fmt.Sprintf("%v.%s=%s", m.Field, name, text))
		default:
			parts = append(parts, fmt.Sprintf("%v=%s", m.Field, m.Raw()))
		}
	}
	return strings.Join(parts, " ")
}

// Ask asks the plugin, such as Ask(authenticate.Answer, Fields{"username": "alice"}).
func (h *Host) Ask(answer func(parley.Message) parley.Reply, request Fields) Reply {
	h.t.Helper()
	h.begin(h.encode(nil, request))
	return h.end(abi.Verdict(parley.Serve(int32(len(h.input)), answer)))
}

func (h *Host) begin(input []byte) {
	h.input, h.reply, h.result, h.set = input, nil, nil, nil
}

// end checks a reply as a relay would.
func (h *Host) end(v abi.Verdict) Reply {
	h.t.Helper()
	if v == abi.VerdictDone {
		h.reply = append(h.reply, h.set...)
	}
	if v > abi.VerdictDeny {
		h.t.Errorf("%v: no hook has it", v)
	}
	m := abi.Read(h.reply)
	for m.Next() {
		check(&m)
		if v == abi.VerdictDeny {
			h.checkRefusal(&m)
		}
	}
	if m.Err() != nil {
		h.t.Errorf("reply: %v", m.Err())
	}
	return Reply{v, parley.NewMessage(h.reply), h.reply}
}

func (h *Host) checkRefusal(m *abi.Reader) {
	h.t.Helper()
	switch m.Field {
	case abi.FieldStatus:
		if n := m.Uint(); !slices.Contains([]uint64{400, 403, 404, 413, 415, 423, 481, 501, 506}, n) {
			h.t.Errorf("reply: status %d is none to refuse with", n)
		}
	case abi.FieldReason:
		control := func(c rune) bool { return c < ' ' || c == 0x7f }
		if text := m.Raw(); len(text) > 128 || bytes.ContainsFunc(text, control) {
			h.t.Errorf("reply: reason %q is not one line of up to 128 bytes", text)
		}
	}
}

// encode appends fields, sorted by name.
func (h *Host) encode(b []byte, fields Fields) []byte {
	h.t.Helper()
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := fields[name]
		field, key, pair := strings.Cut(name, ".")
		f, kind, ok := abi.Lookup(field)
		switch v := value.(type) {
		case string:
			if pair {
				b = abi.AppendPair(b, f, key, v)
			} else if v != "" { // what is empty is left out, as relays do
				b = abi.AppendText(b, f, v)
			}
			ok = ok && pair == (kind == abi.TypeMessage) && (pair || kind == abi.TypeText)
		case []string:
			for _, one := range v {
				b = abi.AppendPair(b, f, key, one)
			}
			ok = ok && pair && kind == abi.TypeMessage
		case []Fields:
			for _, one := range v {
				b = abi.AppendMessage(b, f, h.encode(nil, one))
			}
			ok = ok && !pair && kind == abi.TypeMessage
		case int:
			b = abi.AppendUint(b, f, uint64(v))
			ok = ok && kind == abi.TypeUint && v >= 0
		case bool:
			n := uint64(0)
			if v {
				n = 1
			}
			b = abi.AppendUint(b, f, n)
			ok = ok && kind == abi.TypeUint
		default:
			ok = false
		}
		if !ok {
			h.t.Fatalf("request: there is no field %s that could be %#v", name, value)
		}
	}
	return b
}

// Set writes an entry of the plugin's store, without an end.
func (h *Host) Set(key, value string) { h.put(key, []byte(value), 0) }

// Get returns an entry of the plugin's store.
func (h *Host) Get(key string) (string, bool) {
	e, ok := h.get(key)
	return string(e.value), ok
}

// Keys returns the keys of the plugin's store, sorted.
func (h *Host) Keys() []string {
	var keys []string
	for key := range h.store {
		if _, ok := h.get(key); ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// Metric returns a counter or gauge, or the sum of a histogram, with its labels
// in the order of their names: Metric("lookups_total", "result", "hit").
func (h *Host) Metric(name string, labels ...string) uint64 {
	return h.metrics[seriesOf(name, labels)]
}

func seriesOf(name string, labels []string) string { return fmt.Sprintf("%s%q", name, labels) }

func (h *Host) get(key string) (entry, bool) {
	e, ok := h.store[key]
	return e, ok && (e.end.IsZero() || h.Now.Before(e.end))
}

func (h *Host) put(key string, value []byte, ttl time.Duration) uint64 {
	h.version++
	e := entry{value: value, version: h.version}
	if ttl > 0 {
		e.end = h.Now.Add(ttl)
	}
	h.store[key] = e
	return h.version
}

// imports is what the plugin sees of a Host.
type imports struct{ *Host }

// Read copies a source.
func (h imports) Read(source, offset uint32, to []byte) int32 {
	var from []byte
	switch source {
	case abi.SourceInput:
		from = h.input
	case abi.SourceBody:
	case abi.SourceResult:
		from = h.result
	case abi.SourceConfig:
		from = []byte(h.config)
	default:
		return int32(abi.ErrInval)
	}
	if int(offset) < len(from) {
		copy(to, from[offset:])
	}
	return int32(len(from))
}

// Write appends to the reply.
func (h imports) Write(sink uint32, p []byte) int32 {
	if sink != abi.SinkReply {
		return int32(abi.ErrInval)
	}
	if len(h.reply)+len(p) > maxMessage {
		return int32(abi.ErrTooBig)
	}
	h.reply = append(h.reply, p...)
	return int32(len(h.reply))
}

// Log keeps a line, and shows it if the test fails.
func (h imports) Log(level uint32, line string) {
	name := map[uint32]string{abi.LevelError: "error", abi.LevelWarn: "warn", abi.LevelInfo: "info", abi.LevelDebug: "debug"}[level]
	h.Lines = append(h.Lines, name+" "+line)
	h.t.Logf("%s %s", name, line)
}

// Call answers a service.
func (h imports) Call(service uint32, request []byte) int32 {
	h.result = nil
	e := abi.ErrNoSys
	if do, ok := services[abi.Service(service)]; ok {
		if e = h.refused(abi.Service(service)); e == 0 {
			if len(request) > maxMessage {
				e = abi.ErrTooBig
			} else {
				e = do(h.Host, read(request))
			}
		}
	}
	switch {
	case e == 0 && len(h.result) > maxMessage:
		e = abi.ErrTooBig
		fallthrough
	case e != 0:
		h.result = nil
		return int32(e)
	}
	return int32(len(h.result))
}

func (h *Host) refused(s abi.Service) abi.Errno {
	if e := h.Errors[s]; e != 0 {
		return e
	}
	if s == abi.ServiceHTTP && h.HTTP == nil {
		return abi.ErrPerm
	}
	return 0
}

// A query is the request of a service.
type query struct {
	parley.Message
	err error
	ttl time.Duration
}

// read checks a request as a relay does, field by field.
func read(request []byte) query {
	m := parley.NewMessage(request)
	q := query{Message: m, ttl: time.Duration(m.Uint(abi.FieldTTLMS)) * time.Millisecond}
	r := abi.Read(request)
	for r.Next() {
		check(&r)
	}
	q.err = r.Err()
	return q
}

// check reads a field that is known as what it must be; r keeps what is wrong.
func check(r *abi.Reader) {
	_, kind, ok := abi.Lookup(r.Field.String())
	switch {
	case !ok:
	case kind == abi.TypeBytes:
		r.Bytes()
	case kind == abi.TypeText:
		r.Text()
	case kind == abi.TypeUint:
		r.Uint()
	case kind == abi.TypeMessage:
		r.Pair()
	}
}

// services is filled in by init, as feature looks into it.
var services map[abi.Service]func(h *Host, q query) abi.Errno

func init() {
	// What is malformed is for no service.
	checked := func(do func(h *Host, q query) abi.Errno) func(h *Host, q query) abi.Errno {
		return func(h *Host, q query) abi.Errno {
			if q.err != nil {
				return abi.ErrInval
			}
			return do(h, q)
		}
	}
	// The store needs a key, and bounds what it holds.
	stored := func(do func(h *Host, q query) abi.Errno) func(h *Host, q query) abi.Errno {
		return checked(func(h *Host, q query) abi.Errno {
			key := q.Text(abi.FieldKey)
			switch {
			case key == "":
				return abi.ErrInval
			case len(key) > maxKey || len(q.Bytes(abi.FieldValue)) > maxValue:
				return abi.ErrTooBig
			}
			return do(h, q)
		})
	}
	services = map[abi.Service]func(h *Host, q query) abi.Errno{
		abi.ServiceFeature:    checked((*Host).feature),
		abi.ServiceTime:       checked((*Host).time),
		abi.ServiceRandom:     checked((*Host).random),
		abi.ServiceKVGet:      stored((*Host).kvGet),
		abi.ServiceKVSet:      stored((*Host).kvSet),
		abi.ServiceKVDel:      stored((*Host).kvDel),
		abi.ServiceKVIncr:     stored((*Host).kvIncr),
		abi.ServiceKVCAS:      stored((*Host).kvCAS),
		abi.ServiceMetric:     checked((*Host).metric),
		abi.ServiceHTTP:       checked((*Host).http),
		abi.ServiceSessionGet: checked((*Host).sessionGet),
		abi.ServiceSessionSet: checked((*Host).sessionSet),
		abi.ServiceHash:       checked((*Host).hash),
	}
}

func (h *Host) feature(q query) abi.Errno {
	op := abi.Service(q.Uint(abi.FieldOp))
	granted := uint64(0)
	if _, ok := services[op]; ok && h.refused(op) == 0 {
		granted = 1
	}
	h.result = abi.AppendUint(nil, abi.FieldGranted, granted)
	return 0
}

func (h *Host) time(query) abi.Errno {
	h.result = abi.AppendUint(nil, abi.FieldTimeNS, uint64(h.Now.UnixNano()))
	return 0
}

func (h *Host) random(q query) abi.Errno {
	n := q.Uint(abi.FieldCount)
	if n > 4096 {
		return abi.ErrInval
	}
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	h.result = abi.AppendBytes(nil, abi.FieldData, b)
	return 0
}

func (h *Host) kvGet(q query) abi.Errno {
	e, ok := h.get(q.Text(abi.FieldKey))
	if !ok {
		return abi.ErrNoEnt
	}
	h.result = abi.AppendBytes(nil, abi.FieldValue, e.value)
	h.result = abi.AppendUint(h.result, abi.FieldVersion, e.version)
	return 0
}

func (h *Host) kvSet(q query) abi.Errno {
	h.result = abi.AppendUint(nil, abi.FieldVersion, h.put(q.Text(abi.FieldKey), q.Bytes(abi.FieldValue), q.ttl))
	return 0
}

func (h *Host) kvCAS(q query) abi.Errno {
	e, ok := h.get(q.Text(abi.FieldKey))
	if !ok {
		e.version = 0
	}
	if e.version != q.Uint(abi.FieldVersion) {
		return abi.ErrConflict
	}
	return h.kvSet(q)
}

func (h *Host) kvDel(q query) abi.Errno {
	key := q.Text(abi.FieldKey)
	if _, ok := h.get(key); !ok {
		return abi.ErrNoEnt
	}
	delete(h.store, key)
	return 0
}

func (h *Host) kvIncr(q query) abi.Errno {
	key := q.Text(abi.FieldKey)
	e, ok := h.get(key)
	if !ok {
		h.put(key, make([]byte, 8), q.ttl)
		e = h.store[key]
	}
	if len(e.value) != 8 {
		return abi.ErrInval
	}
	n := binary.LittleEndian.Uint64(e.value) + q.Uint(abi.FieldCount)
	h.version++
	h.store[key] = entry{binary.LittleEndian.AppendUint64(nil, n), h.version, e.end}
	h.result = abi.AppendUint(nil, abi.FieldCount, n)
	h.result = abi.AppendUint(h.result, abi.FieldVersion, h.version)
	return 0
}

func (h *Host) metric(q query) abi.Errno {
	name, kind, labels := q.Text(abi.FieldName), q.Text(abi.FieldKind), q.Pairs(abi.FieldLabel)
	if !isName(name) || len(labels) > 4 || !slices.Contains([]string{"counter", "gauge", "histogram"}, kind) {
		return abi.ErrInval
	}
	slices.SortFunc(labels, func(a, b parley.Pair) int { return strings.Compare(a.Name, b.Name) })
	var flat []string
	for _, l := range labels {
		if !isName(l.Name) || len(l.Text) > 64 {
			return abi.ErrInval
		}
		flat = append(flat, l.Name, l.Text)
	}
	key := seriesOf(name, flat)
	if kind == "gauge" {
		h.metrics[key] = 0
	}
	h.metrics[key] += q.Uint(abi.FieldCount)
	return 0
}

func isName(s string) bool {
	for i, c := range []byte(s) {
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func (h *Host) http(q query) abi.Errno {
	if h.loading {
		return abi.ErrInval // nobody has asked anything yet
	}
	req, err := http.NewRequest(q.Text(abi.FieldMethod), q.Text(abi.FieldURI), bytes.NewReader(q.Bytes(abi.FieldBody)))
	if err != nil || req.URL.Host == "" {
		return abi.ErrInval
	}
	for _, p := range q.Pairs(abi.FieldHeader) {
		if strings.ContainsAny(p.Name+p.Text, "\r\n") {
			return abi.ErrInval
		}
		req.Header.Add(p.Name, p.Text)
	}
	rec := httptest.NewRecorder()
	h.HTTP.ServeHTTP(rec, req)
	resp := rec.Result()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return abi.ErrIO
	}
	h.result = abi.AppendUint(nil, abi.FieldStatus, uint64(resp.StatusCode))
	for name, values := range resp.Header {
		for _, v := range values {
			h.result = abi.AppendPair(h.result, abi.FieldHeader, name, v)
		}
	}
	h.result = abi.AppendBytes(h.result, abi.FieldBody, body)
	return 0
}

func (h *Host) sessionGet(q query) abi.Errno {
	texts := parley.NewMessage(append(slices.Clone(h.input), h.set...)).PairList(abi.FieldAttribute, q.Text(abi.FieldName))
	if len(texts) == 0 {
		return abi.ErrNoEnt
	}
	h.result = abi.AppendText(nil, abi.FieldText, texts[len(texts)-1])
	return 0
}

func (h *Host) sessionSet(q query) abi.Errno {
	name := q.Text(abi.FieldName)
	if name == "" {
		return abi.ErrInval
	}
	h.set = abi.AppendPair(h.set, abi.FieldAttribute, name, q.Text(abi.FieldText))
	return 0
}

func (h *Host) hash(q query) abi.Errno {
	newHash := map[string]func() hash.Hash{parley.MD5: md5.New, parley.SHA1: sha1.New, parley.SHA256: sha256.New}[q.Text(abi.FieldAlgorithm)]
	if newHash == nil {
		return abi.ErrInval
	}
	sum := newHash()
	if q.Has(abi.FieldSecret) {
		sum = hmac.New(newHash, q.Bytes(abi.FieldSecret))
	}
	sum.Write(q.Bytes(abi.FieldData))
	h.result = abi.AppendBytes(nil, abi.FieldDigest, sum.Sum(nil))
	return 0
}
