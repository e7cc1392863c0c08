package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/limit"
	"github.com/parley-msrp/parley/host/msrp"
)

// An account is a user with sessions, on whatever connections. r.mu guards it.
type account struct {
	user     string
	sessions int
	rates    limit.Rates
	meter    *limit.Meter // of rates; nil = no limit
}

// A place is an address with connections. r.mu guards it.
type place struct {
	peer        netip.Prefix
	connections int
	sessions    int
	users       map[*account]int // their sessions
}

// admit decides by c.remote whether an accepted connection is served, and counts
// it there until forget. It is called once, when the address is known.
func (c *conn) admit() error {
	r := c.r
	if r.cfg().Bans != nil && r.cfg().Bans.Banned(c.remote.Addr()) {
		c.count(closedBanned)
		return errBanned
	}
	peer, ok := r.cfg().Addresses.Peer(c.remote.Addr())
	if !ok {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.places[peer]
	if p == nil {
		p = &place{peer: peer}
		r.places[peer] = p
	}
	if max := r.cfg().Limits.addressConnections(); max > 0 && p.connections >= max {
		c.count(closedAddress)
		return errCrowded
	}
	p.connections++
	c.place = p
	return nil
}

func (l *Limits) connections() int { return or(l.Connections, 20000) }

func (l *Limits) addressConnections() int {
	return or(l.AddressConnections, max(l.connections()/4, 100))
}

// leave undoes admit. r.mu is held.
func (c *conn) leave() {
	if p := c.place; p != nil {
		p.connections--
		c.r.tidy(p)
	}
	c.place = nil
}

// tidy forgets a place where nobody is. r.mu is held.
func (r *Relay) tidy(p *place) {
	if p.connections == 0 && p.sessions == 0 {
		delete(r.places, p.peer)
	}
}

// crowded returns why s, a new session, is one too many for its user or its
// address, if it is (RELAY-68). r.mu is held.
func (r *Relay) crowded(s *session, lim *hook.Limits) *denial {
	a := r.accounts[s.user]
	if max := pick(lim.Sessions, int64(r.cfg().Limits.UserSessions)); max > 0 && a != nil && int64(a.sessions) >= max {
		return &denial{refusedUserSessions, 403, "Too many sessions of this user"}
	}
	if max := r.cfg().Limits.AddressSessions; max > 0 && s.place != nil && s.place.sessions >= max {
		return &denial{refusedAddressSessions, 403, "Too many sessions from this address"}
	}
	return nil
}

// enrol counts s, a new session, for its user and its address, and sets its
// limits. r.mu is held.
func (r *Relay) enrol(s *session, lim *hook.Limits) {
	a := r.accounts[s.user]
	if a == nil {
		a = &account{user: s.user}
		r.accounts[s.user] = a
	}
	own := &r.cfg().Limits
	rates := limit.Rates{
		Messages: pick(lim.UserMessagesPerMinute, own.UserMessages), Bytes: pick(lim.UserBytesPerSecond, own.UserBytes), Burst: own.Burst,
	}
	if a.rates != rates {
		a.rates, a.meter = rates, limit.NewMeter(rates)
	}
	rates = limit.Rates{
		Messages: pick(lim.MessagesPerMinute, own.SessionMessages), Bytes: pick(lim.BytesPerSecond, own.SessionBytes), Burst: own.Burst,
	}
	s.ofUser, s.out, s.in = a.meter, limit.NewMeter(rates), limit.NewMeter(rates)
	s.message = pick(lim.Message, own.Message)
	s.account = a
	a.sessions++
	if p := s.place; p != nil {
		p.sessions++
		if p.users == nil {
			p.users = map[*account]int{}
		}
		p.users[a]++
	}
}

// pick returns a limit: v if it is set, else def. Negative means none, as 0 does
// in the result.
func pick(v, def int64) int64 { return max(0, or(v, def)) }

// resign undoes enrol. r.mu is held.
func (r *Relay) resign(s *session) {
	a := s.account
	if p := s.place; p != nil {
		p.sessions--
		if p.users[a]--; p.users[a] == 0 {
			delete(p.users, a)
		}
		r.tidy(p)
	}
	if a.sessions--; a.sessions > 0 {
		return
	}
	if a.meter == nil {
		delete(r.accounts, a.user)
		return
	}
	// Who ends all sessions and comes again must not find a full meter.
	time.AfterFunc(a.rates.Full(), func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if a.sessions == 0 && r.accounts[a.user] == a {
			delete(r.accounts, a.user)
		}
	})
}

// shunned reports whether nobody may authenticate as this user on c: its address
// is banned, and c has no session of the user, who might renew it. Connections
// that were there before the ban stay, for they are others', too; but who tries
// on one that never had a session is sent away.
func (c *conn) shunned(h *msrp.Head, name string) bool {
	r := c.r
	if r.cfg().Bans == nil || !r.cfg().Bans.Banned(c.remote.Addr()) {
		return false
	}
	r.mu.Lock()
	for s := range c.sessions {
		if s.user == name {
			r.mu.Unlock()
			return false
		}
	}
	r.mu.Unlock()
	c.refuse(h, refusedBanned, 403, "Too many wrong passwords")
	if !c.proven.Load() {
		c.finish(errBanned)
	}
	return true
}

// blame counts a wrong password against the address of c and has the peer wait
// for its answer. It reports whether the address is banned now.
func (c *conn) blame(relayed bool) (banned bool) {
	v := c.accuse(relayed)
	if v.Delay > 0 && !relayed {
		c.count(delayedAuth)
		c.m.Pause(v.Delay)
	}
	return v.Banned
}

// accuse counts a wrong password against the address of c.
//
// Users with sessions at the address share the blame, so that a school is not
// banned for a few pupils; so do those behind a relay that cannot prove to be one,
// who are not made to wait for each other, either (RELAY-40): ten of their wrong
// passwords count as one.
func (c *conn) accuse(relayed bool) (v limit.Verdict) {
	r := c.r
	if r.cfg().Bans == nil {
		return v
	}
	weight := 1.0
	r.mu.Lock()
	if c.place != nil {
		weight /= float64(1 + len(c.place.users))
	}
	r.mu.Unlock()
	if relayed {
		weight /= 10
	}
	if v = r.cfg().Bans.Failed(c.remote.Addr(), weight); v.New {
		c.count(madeBan)
	}
	return v
}

// Bans returns the bans by address, or nil if there are none in this relay.
func (r *Relay) Bans() *limit.Bans { return r.cfg().Bans }

// checkCounts returns what is inconsistent in accounts and places. r.mu is held.
func (r *Relay) checkCounts() error {
	var errs []error
	sessions, connections, placed := map[*account]int{}, map[*place]int{}, map[*place]int{}
	for c := range r.conns {
		connections[c.place]++
		for s := range c.sessions {
			sessions[s.account]++
			placed[s.place]++
		}
	}
	for _, in := range r.inner {
		for s := range in.sessions {
			sessions[s.account]++
		}
	}
	for _, a := range r.accounts {
		if a.sessions != sessions[a] {
			errs = append(errs, fmt.Errorf("%d sessions counted for a user who has %d", a.sessions, sessions[a]))
		}
	}
	for _, p := range r.places {
		if p.connections < connections[p] || p.sessions != placed[p] {
			errs = append(errs, fmt.Errorf("%s: %d connections and %d sessions counted, there are %d and %d",
				p.peer, p.connections, p.sessions, connections[p], placed[p]))
		}
	}
	return errors.Join(errs...)
}
