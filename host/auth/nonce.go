package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"sync"
	"time"
)

// A nonce is, in base64url,
//
//	issued (8) | random (16) | HMAC-SHA256(key, label | issued | random | conn | realm), cut to 18
//
// so it proves by itself that this server made it for this connection, and
// costs no memory before somebody has used it rightly (RELAY-78). The length
// is a multiple of three: base64 without spare bits, so one nonce has one
// spelling.
const (
	nonceRandom = 8
	nonceMAC    = nonceRandom + 16
	nonceLen    = nonceMAC + 18
	nonceLabel  = "parley digest nonce\x00"
)

// A nonceID tells nonces apart: their random part.
type nonceID [nonceMAC - nonceRandom]byte

func (s *Server) newNonce(conn uint64) string {
	b := make([]byte, nonceMAC, nonceLen)
	binary.BigEndian.PutUint64(b, uint64(s.guard.now()))
	rand.Read(b[nonceRandom:]) // never fails: crypto/rand
	return base64.RawURLEncoding.EncodeToString(append(b, s.mac(b, conn)...))
}

// openNonce takes apart a nonce that this server made for conn.
func (s *Server) openNonce(conn uint64, nonce string) (id nonceID, issued int64, ok bool) {
	if len(nonce) != base64.RawURLEncoding.EncodedLen(nonceLen) {
		return id, 0, false
	}
	b, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(b) != nonceLen || !hmac.Equal(b[nonceMAC:], s.mac(b[:nonceMAC], conn)) {
		return id, 0, false
	}
	return nonceID(b[nonceRandom:nonceMAC]), int64(binary.BigEndian.Uint64(b)), true
}

func (s *Server) mac(head []byte, conn uint64) []byte {
	// Each part before the realm has a fixed length, so no two inputs look alike.
	h := hmac.New(sha256.New, s.key)
	h.Write([]byte(nonceLabel))
	h.Write(head)
	h.Write(binary.BigEndian.AppendUint64(nil, conn))
	h.Write([]byte(s.realm))
	return h.Sum(nil)[:nonceLen-nonceMAC]
}

// A replayGuard lets each nonce be used for its lifetime, with rising counts.
//
//  1. A (nonce, nc) is accepted at most once, and nc only rises (ECO-193).
//  2. A nonce is accepted for at most its lifetime, measured by a clock that
//     is never set back.
//  3. It holds at most 2*max entries. When they do not suffice for a lifetime,
//     the lifetime shrinks: what is forgotten is refused ever after.
type replayGuard struct {
	// Set by newReplayGuard, then read-only.
	max      int
	lifetime int64 // ns
	start    time.Time

	mu       sync.Mutex         // guards what follows
	cur, old map[nonceID]uint32 // highest nc used, of nonces last used since began, and before
	began    int64              // when cur began
	floor    int64              // nonces issued then or earlier are refused
}

func newReplayGuard(lifetime time.Duration, maxEntries int) *replayGuard {
	g := &replayGuard{
		max: maxEntries, lifetime: int64(lifetime), start: time.Now(),
		cur: map[nonceID]uint32{},
	}
	g.began = g.start.UnixNano()
	// Nonces of an earlier process that had the same key: which of them were
	// used is not known here.
	g.floor = g.began - 1
	return g
}

// now is Unix time in ns that runs on evenly when the system's clock is set.
func (g *replayGuard) now() int64 { return g.start.UnixNano() + int64(time.Since(g.start)) }

// use reports whether the nonce may be used with nc, and if so remembers it.
func (g *replayGuard) use(id nonceID, issued int64, nc uint32) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if now-g.began >= g.lifetime {
		g.rotate(now)
	}
	if issued <= g.floor || issued > now || now-issued >= g.lifetime || nc <= max(g.cur[id], g.old[id]) {
		return false
	}
	if g.cur[id] == 0 && len(g.cur) >= g.max {
		if g.rotate(now); issued <= g.floor {
			return false
		}
	}
	g.cur[id] = nc
	return true
}

// rotate forgets the entries of old. Their nonces were used, hence issued,
// before cur began.
func (g *replayGuard) rotate(now int64) {
	g.floor = g.began
	g.old, g.cur, g.began = g.cur, map[nonceID]uint32{}, now
}
