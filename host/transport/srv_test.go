package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parley-msrp/parley/host/dnstest"
)

// TestSRV: where a name without port leads (RFC 4976 §8, RELAY-20..24, RFC 2782).
func TestSRV(t *testing.T) {
	dns := dnstest.New(t, `
		_msrps._tcp.north.example. SRV 20 0 2859 r9.north.example.
		_msrps._tcp.north.example. SRV 10 0 2855 r1.north.example.
		_msrps._tcp.north.example. SRV 30 5 2856 r2.north.example.
		_msrps._tcp.closed.example. SRV 0 0 0 .
		_msrps._tcp.zero.example. SRV 0 0 0 r1.north.example.
		_msrps._tcp.half.example. SRV 0 0 0 .
		_msrps._tcp.half.example. SRV 1 0 2855 r1.north.example.
		_msrps._tcp.alias.example. CNAME _msrps._tcp.north.example.
		_msrps._tcp.nodata.example. TXT "of another type"
		_msrps._tcp.plain.example. TXT "x"
	`)
	for i := range 60 {
		dns.Add(t, fmt.Sprintf("_msrps._tcp.many.example. SRV %d 0 2855 a-relay-with-a-long-name-%02d.many.example.", i, i))
	}
	dns.Fail("_msrps._tcp.broken.example.")
	north := []hop{{"r1.north.example.", 2855}, {"r9.north.example.", 2859}, {"r2.north.example.", 2856}}
	var many []hop
	for i := range maxTargets {
		many = append(many, hop{fmt.Sprintf("a-relay-with-a-long-name-%02d.many.example.", i), 2855})
	}
	tests := []struct {
		name string
		Target
		want []hop
		err  string
	}{
		{name: "by priority", Target: Target{Host: "north.example"}, want: north},
		{name: "upper case, with dot", Target: Target{Host: "NORTH.example."}, want: north},
		{name: "CNAME", Target: Target{Host: "alias.example"}, want: north},
		{name: "with a port no SRV", Target: Target{Host: "north.example", Port: 1234}, want: []hop{{"north.example", 1234}}},
		{name: "no such name", Target: Target{Host: "none.example"}, want: []hop{{"none.example", 2855}}},
		{name: "no such record", Target: Target{Host: "nodata.example"}, want: []hop{{"nodata.example", 2855}}},
		{name: "localhost", Target: Target{Host: "LocalHost"}, want: []hop{{"LocalHost", 2855}}},
		{name: "no service", Target: Target{Host: "closed.example"}, err: "the SRV records of closed.example say that there is no relay"},
		{name: "no port", Target: Target{Host: "zero.example"}, err: "there is no relay"},
		{name: "one of two", Target: Target{Host: "half.example"}, want: []hop{{"r1.north.example.", 2855}}},
		{name: "more than 512 octets, and than we try", Target: Target{Host: "many.example"}, want: many},
		{name: "SERVFAIL", Target: Target{Host: "broken.example"}, err: "server misbehaving"},
		{name: "an address", Target: Target{Host: "192.0.2.1"}, err: "an address needs a port"},
	}
	d := &Dialer{Resolver: NewResolver(dns.Addr)}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.Secure = true
			udp, tcp := dns.UDP.Load(), dns.TCP.Load()
			got, err := d.hops(t.Context(), tt.Target)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, %v; want an error with %q", got, err, tt.err)
				}
				return
			}
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
			if asked := dns.UDP.Load() != udp; asked == (tt.Port != 0 || tt.Host == "LocalHost") {
				t.Errorf("DNS was asked: %v", asked)
			}
			if big := dns.TCP.Load() != tcp; big != (tt.Host == "many.example") {
				t.Errorf("DNS was asked over TCP: %v", big)
			}
		})
	}
	if _, err := d.hops(t.Context(), Target{Host: "north.example"}); err == nil {
		t.Error("RELAY-24: SRV without TLS")
	}
}

// TestDialSRV: each target and each of its addresses gets its turn, the guard
// looks at all, and the certificate is for the name that was asked for
// (RELAY-23, RELAY-25, RELAY-28).
func TestDialSRV(t *testing.T) {
	ca := newAuthority(t)
	ln, addr := loopback(t, ca.server(t, "north.example"))
	sni := make(chan string, 1)
	serve(t, ln, func(nc net.Conn) {
		_ = Handshake(context.Background(), nc, 0)
		sni <- nc.(Secure).ConnectionState().ServerName
	})
	down, downAddr := loopback(t, nil)
	_ = down.Close()
	records := func(lines ...string) string {
		return strings.NewReplacer("UP", fmt.Sprint(addr.Port()), "DOWN", fmt.Sprint(downAddr.Port())).Replace(strings.Join(lines, "\n"))
	}
	var crowd []string
	for i := range maxAddrs {
		crowd = append(crowd, fmt.Sprintf("r1.north.example. A 10.0.0.%d", i+1))
	}
	tests := []struct {
		name    string
		zone    []string
		refused bool   // by the guard
		err     string // part of it; "" = none
	}{
		{name: "the first", zone: []string{"_msrps._tcp.north.example. SRV 1 0 UP r1.north.example.", "r1.north.example. A 127.0.0.1"}},
		{name: "the second", zone: []string{
			"_msrps._tcp.north.example. SRV 1 0 DOWN r1.north.example.", "_msrps._tcp.north.example. SRV 2 0 UP r1.north.example.",
			"r1.north.example. A 127.0.0.1",
		}},
		{name: "the first has no address", zone: []string{
			"_msrps._tcp.north.example. SRV 1 0 UP none.north.example.", "_msrps._tcp.north.example. SRV 2 0 UP r1.north.example.",
			"r1.north.example. A 127.0.0.1",
		}},
		{name: "another address", zone: []string{
			"_msrps._tcp.north.example. SRV 1 0 UP r1.north.example.", "r1.north.example. A 10.0.0.1", "r1.north.example. A 127.0.0.1",
		}},
		{name: "the first is refused", zone: []string{
			"_msrps._tcp.north.example. SRV 1 0 UP r1.north.example.", "_msrps._tcp.north.example. SRV 2 0 UP r2.north.example.",
			"r1.north.example. A 10.0.0.1", "r2.north.example. A 127.0.0.1",
		}},
		{name: "all are refused", refused: true, err: `address 10.0.0.1 of "north.example" is not permitted`, zone: []string{
			"_msrps._tcp.north.example. SRV 1 0 UP r1.north.example.", "r1.north.example. A 10.0.0.1",
		}},
		{name: "too many addresses", refused: true, err: "10.0.0.8", zone: append([]string{
			"_msrps._tcp.north.example. SRV 1 0 UP r1.north.example.", "_msrps._tcp.north.example. SRV 2 0 UP r2.north.example.",
			"r2.north.example. A 127.0.0.1",
		}, crowd...)},
		{name: "all are down", err: "connection refused", zone: []string{
			"_msrps._tcp.north.example. SRV 1 0 DOWN r1.north.example.", "r1.north.example. A 127.0.0.1",
		}},
		{name: "no such target", err: "no such host", zone: []string{"_msrps._tcp.north.example. SRV 1 0 UP none.north.example."}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dns := dnstest.New(t, records(tt.zone...))
			d := &Dialer{Resolver: NewResolver(dns.Addr), Guard: Guard{Allow: prefixes("127.0.0.0/8")}}
			nc, err := d.Dial(t.Context(), Target{Host: "north.example", Secure: true, TLS: &tls.Config{RootCAs: ca.pool}})
			if refused := errors.As(err, new(*GuardError)); refused != tt.refused {
				t.Errorf("refused by the guard: %v", refused)
			}
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.HasPrefix(err.Error(), "connect to north.example: ") {
					t.Errorf("got %v, want an error with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if got := want(t, sni); got != "north.example" {
				t.Errorf("SNI %q", got)
			}
		})
	}
	t.Run("certificate of the target", func(t *testing.T) {
		ln, addr := loopback(t, ca.server(t, "r1.north.example"))
		serve(t, ln, func(nc net.Conn) { _ = Handshake(context.Background(), nc, 0) })
		dns := dnstest.New(t, fmt.Sprintf("_msrps._tcp.north.example. SRV 1 0 %d r1.north.example.\nr1.north.example. A 127.0.0.1", addr.Port()))
		d := &Dialer{Resolver: NewResolver(dns.Addr), Guard: Guard{Allow: openAll}}
		_, err := d.Dial(t.Context(), Target{Host: "north.example", Secure: true, TLS: &tls.Config{RootCAs: ca.pool}})
		if err == nil || !strings.Contains(err.Error(), "valid for r1.north.example, not north.example") {
			t.Error(err)
		}
	})
}

// TestOrderSRV is the algorithm of RFC 2782, of which RELAY-23 speaks.
func TestOrderSRV(t *testing.T) {
	srv := func(target string, priority, weight uint16) *net.SRV {
		return &net.SRV{Target: target, Priority: priority, Weight: weight}
	}
	order := func(found []*net.SRV, intN func(int) int) string {
		var s []string
		for _, r := range orderSRV(found, intN) {
			s = append(s, r.Target)
		}
		return strings.Join(s, "")
	}
	t.Run("exact", func(t *testing.T) {
		found := []*net.SRV{srv("c", 10, 3), srv("z", 20, 0), srv("b", 10, 1), srv("a", 10, 0), srv("y", 20, 0)}
		// Running sums of priority 10: a 0, c 3, b 4.
		for draws, want := range map[[3]int]string{
			{0, 0, 0}: "acbzy", {1, 0, 0}: "cabzy", {3, 1, 0}: "cbazy", {4, 0, 0}: "bac" + "zy", {4, 3, 0}: "bcazy",
		} {
			var asked []int
			i := 0
			got := order(found, func(n int) int {
				asked = append(asked, n)
				if i++; i <= len(draws) {
					return draws[i-1]
				}
				return 0
			})
			if got != want || asked[0] != 5 {
				t.Errorf("drawn %v of %v: %s, want %s", draws, asked, got, want)
			}
		}
		if found[0].Target != "c" {
			t.Error("the resolver's list was changed")
		}
	})
	t.Run("by weight", func(t *testing.T) {
		found := []*net.SRV{srv("n", 1, 0), srv("a", 1, 60), srv("b", 1, 40), srv("x", 2, 1)}
		r := rand.New(rand.NewPCG(1, 2))
		first := map[byte]int{}
		const n = 100_000
		for range n {
			s := order(found, r.IntN)
			if s[3] != 'x' {
				t.Fatalf("%s: a lower priority came first", s)
			}
			first[s[0]]++
		}
		// Of 101 draws, one is of the weight 0.
		for target, share := range map[byte]float64{'n': 1. / 101, 'a': 60. / 101, 'b': 40. / 101} {
			if got := float64(first[target]) / n; got < share-0.005 || got > share+0.005 {
				t.Errorf("%c came first in %.4f of all, want %.4f", target, got, share)
			}
		}
	})
	t.Run("without weights", func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		got := map[string]bool{}
		for range 100 {
			got[order([]*net.SRV{srv("a", 1, 0), srv("b", 1, 0)}, r.IntN)] = true
		}
		if diff := cmp.Diff(map[string]bool{"ab": true, "ba": true}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestShare: an address that hangs leaves time for those after it.
func TestShare(t *testing.T) {
	for _, tt := range []struct {
		rest, timeout time.Duration // rest 0 = no deadline
		left          int
		want          time.Duration
	}{
		{0, 10 * time.Second, 3, 10 * time.Second},
		{15 * time.Second, 10 * time.Second, 1, 10 * time.Second},
		{15 * time.Second, 10 * time.Second, 2, 7500 * time.Millisecond},
		{15 * time.Second, -1, 2, 7500 * time.Millisecond},
		{60 * time.Second, 10 * time.Second, 2, 10 * time.Second},
		{15 * time.Second, 10 * time.Second, 8, 2 * time.Second},
		{15 * time.Second, time.Second, 8, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			if tt.rest > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tt.rest)
				defer cancel()
			}
			if got := share(ctx, tt.timeout, tt.left); got != tt.want {
				t.Errorf("%+v: %s", tt, got)
			}
		})
	}
}
