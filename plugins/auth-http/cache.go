package main

import (
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/parley-msrp/parley/sdk/abi"
	parley "github.com/parley-msrp/parley/sdk/go"
	"github.com/parley-msrp/parley/sdk/go/authenticate"
)

// What the service can know of a user.
const (
	unknown = iota // the next provider is asked
	found
	denied
)

// An answerOf is what the service says of a user.
type answerOf struct {
	kind       uint64
	username   string // that a handshake has proved
	ha1        string
	maxExpires time.Duration
	attributes map[string]string
	limits     map[string]uint64 // by the names of their fields
	status     int
	reason     string
}

func (a *answerOf) reply() authenticate.Reply {
	switch a.kind {
	case denied:
		return authenticate.Deny(a.status, a.reason)
	case unknown:
		return authenticate.Next()
	}
	reply := authenticate.Done()
	if a.username != "" {
		reply = reply.Authenticated().Username(a.username)
	} else {
		reply = reply.HA1(a.ha1)
	}
	if a.maxExpires > 0 {
		reply = reply.MaxExpires(a.maxExpires)
	}
	for _, name := range a.names() {
		reply = reply.Attribute(name, a.attributes[name])
	}
	for _, l := range limits {
		if v := a.limits[l.field.String()]; v > 0 {
			reply = l.put(reply, v)
		}
	}
	return reply
}

// limits are those that a service may set.
var limits = []struct {
	field abi.Field
	put   func(authenticate.Reply, uint64) authenticate.Reply
}{
	{abi.FieldMaxSessions, authenticate.Reply.MaxSessions},
	{abi.FieldMessagesPerMinute, authenticate.Reply.MessagesPerMinute},
	{abi.FieldBytesPerSecond, authenticate.Reply.BytesPerSecond},
	{abi.FieldUserMessagesPerMinute, authenticate.Reply.UserMessagesPerMinute},
	{abi.FieldUserBytesPerSecond, authenticate.Reply.UserBytesPerSecond},
	{abi.FieldMaxMessage, authenticate.Reply.MaxMessage},
}

// names are sorted, for a reply should be the same each time.
func (a *answerOf) names() []string {
	return slices.Sorted(maps.Keys(a.attributes))
}

// fieldKind is a private field: which of the three an answer is.
const fieldKind abi.Field = 0x8001

func (a *answerOf) encode() []byte {
	b := abi.AppendUint(nil, fieldKind, a.kind)
	b = abi.AppendText(b, abi.FieldHA1, a.ha1)
	b = abi.AppendUint(b, abi.FieldMaxExpiresMS, uint64(a.maxExpires/time.Millisecond))
	b = abi.AppendUint(b, abi.FieldStatus, uint64(a.status))
	b = abi.AppendText(b, abi.FieldReason, a.reason)
	for _, name := range a.names() {
		b = abi.AppendPair(b, abi.FieldAttribute, name, a.attributes[name])
	}
	for _, l := range limits {
		b = abi.AppendUint(b, l.field, a.limits[l.field.String()])
	}
	return b
}

func decode(b []byte) answerOf {
	m := parley.NewMessage(b)
	a := answerOf{
		kind: m.Uint(fieldKind), ha1: m.Text(abi.FieldHA1), maxExpires: time.Duration(m.Uint(abi.FieldMaxExpiresMS)) * time.Millisecond,
		status: int(m.Uint(abi.FieldStatus)), reason: m.Text(abi.FieldReason), attributes: map[string]string{}, limits: map[string]uint64{},
	}
	for _, p := range m.Pairs(abi.FieldAttribute) {
		a.attributes[p.Name] = p.Text
	}
	for _, l := range limits {
		a.limits[l.field.String()] = m.Uint(l.field)
	}
	return a
}

// A store keeps answers in the plugin's store, under keys with one letter before:
// f for those that are fresh, s for those that will do while the service is
// down, and t for the passwords that were tried against one that is fresh. All
// end by themselves, so no clock is needed. Without the times there is no cache.
type store struct {
	config                    string // a hash of the configuration
	positive, negative, stale time.Duration
}

func (s *store) on() bool { return s.positive > 0 || s.negative > 0 }

// key is a hash of all that an answer may depend on. It is short, whatever the
// names, and the store shows none of them.
func (s *store) key(r authenticate.Request) (string, error) {
	if !s.on() {
		return "", nil
	}
	var b []byte
	add := func(text string) { b = append(strconv.AppendQuote(b, text), ',') }
	add(s.config)
	for _, name := range names {
		switch {
		case name != "remote_addr":
			add(value(r, name))
		case cfg.Cache.PerAddress:
			if addr, err := netip.ParseAddrPort(r.RemoteAddr()); err == nil {
				add(addr.Addr().String())
			}
		}
	}
	for _, p := range r.Pairs(abi.FieldParam) {
		add(p.Name)
		add(p.Text)
	}
	sum, err := parley.Hash(parley.SHA256, b)
	return hex.EncodeToString(sum), err
}

func (s *store) get(key string) (answerOf, bool) {
	if !s.on() {
		return answerOf{}, false
	}
	return s.read("f" + key)
}

func (s *store) getStale(key string) (answerOf, bool) {
	if s.stale == 0 {
		return answerOf{}, false
	}
	return s.read("s" + key)
}

func (s *store) read(key string) (answerOf, bool) {
	e, err := parley.KVGet(key)
	if err != nil {
		if err != abi.ErrNoEnt {
			parley.Warn("cache: " + err.Error())
		}
		return answerOf{}, false
	}
	return decode(e.Value), true
}

func (s *store) put(key string, a *answerOf) {
	ttl := s.negative
	if a.kind == found {
		ttl = s.positive
	}
	b := a.encode()
	if ttl > 0 {
		s.write("f"+key, b, ttl)
	}
	if s.stale == 0 {
		return
	}
	if a.kind == found {
		s.write("s"+key, b, s.positive+s.stale)
	} else if err := parley.KVDel("s" + key); err != nil && err != abi.ErrNoEnt { // known no more
		parley.Warn("cache: " + err.Error())
	}
}

func (s *store) write(key string, b []byte, ttl time.Duration) {
	if err := parley.KVSet(key, b, ttl); err != nil {
		parley.Warn("cache: " + err.Error())
	}
}

// retry is how often a password that does not match makes the service be asked
// again.
const retry = 5 * time.Second

// trust reports whether an answer that is fresh will do. One by which the peer
// has not answered the challenge may be of an old password, so the service is
// asked again; but not each time, lest whoever tries passwords makes it work.
func (s *store) trust(key string, r authenticate.Request, a *answerOf) bool {
	if a.kind != found {
		return true
	}
	if ok, err := r.Matches(a.ha1); ok || err != nil {
		return true
	}
	n, err := parley.KVIncr("t"+key, 1, retry)
	return err != nil || n > 1
}
