package host_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-msrp/parley/host"
	"github.com/parley-msrp/parley/host/config"
	"github.com/parley-msrp/parley/host/msrptest"
)

// TestBansOutlive: who is banned stays so over a restart, from the file; nobody
// else is, and nothing is left behind.
func TestBansOutlive(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "bans.json")
	text := fmt.Sprintf(`
listeners: {tcp: {uri: "msrp://localhost:2855;tcp", bind: "127.0.0.1:0", plain_auth: true, hooks: {authenticate: [users]}}}
providers: {users: {type: static, users: {alice: {password: secret}}}}
relay: {addresses: {exempt: []}, bans: {after: 2, file: %q}}
`, file)
	run := func(text string, f func(s *host.Server, peer func() *msrptest.Peer)) {
		t.Helper()
		cfg, err := config.Parse([]byte(text), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := host.New(cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err := s.Listen(ctx); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx) }()
		f(s, func() *msrptest.Peer {
			nc, err := net.Dial("tcp", s.Addr("tcp").String())
			if err != nil {
				t.Fatal(err)
			}
			return msrptest.NewPeer(t, nc)
		})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	wrong := `MSRP TID AUTH
To-Path: msrp://localhost:2855;tcp
From-Path: msrp://x.invalid:9/x;tcp
Authorization: Digest username="x", realm="localhost", nonce="x", qop=auth, nc=00000001, cnonce="x", response="00000000000000000000000000000000"
-------TID$`
	run(text, func(s *host.Server, peer func() *msrptest.Peer) {
		p := peer()
		for _, tid := range []string{"aaaa", "bbbb"} {
			p.Send(strings.ReplaceAll(wrong, "TID", tid))
			p.WantResponse(tid, 401)
		}
		p.WantClosed()
		peer().WantClosed()
		if st := s.Relay().Stats(); st.Banned != 1 || st.Counts["ban_made"] != 1 || st.Counts["ban_connection"] != 1 {
			t.Errorf("%+v", st)
		}
	})
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	run(text, func(s *host.Server, peer func() *msrptest.Peer) {
		peer().WantClosed()
		bans := s.Relay().Bans()
		if l := bans.List(); len(l) != 1 || l[0].Address.String() != "127.0.0.1/32" {
			t.Fatalf("%+v", l)
		}
		bans.Lift(bans.List()[0].Address.Addr())
		p := peer()
		p.Send(strings.ReplaceAll(wrong, "TID", "aaaa"))
		p.WantResponse("aaaa", 401)
	})
	run(strings.Replace(text, "after: 2", "after: -1", 1), func(s *host.Server, peer func() *msrptest.Peer) {
		if s.Relay().Bans() != nil {
			t.Error("bans are on")
		}
		p := peer()
		for i := range 5 {
			tid := fmt.Sprintf("aaa%d", i)
			p.Send(strings.ReplaceAll(wrong, "TID", tid))
			p.WantResponse(tid, 401)
		}
	})
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("left over: %v", left)
	}
}
