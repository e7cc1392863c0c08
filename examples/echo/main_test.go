package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/msrptest"
	"github.com/parley-msrp/parley/host/relay"
)

func TestEcho(t *testing.T) {
	const relayURI = "msrp://relay.example:2855;tcp"
	synctest.Test(t, func(t *testing.T) {
		server, err := auth.NewServer(auth.ServerConfig{Realm: "example"})
		if err != nil {
			t.Fatal(err)
		}
		users, err := hook.NewStatic(map[string]hook.User{"alice": {Password: "secret"}})
		if err != nil {
			t.Fatal(err)
		}
		u, _ := msrp.ParseURI(relayURI)
		r, err := relay.New(relay.Config{Auth: server, Listeners: []relay.Listener{{
			Name: "edge", URI: u, PlainAuth: true,
			Hooks: relay.Hooks{Authenticate: hook.NewChain(nil, hook.Binding[hook.AuthRequest, hook.AuthReply]{Provider: users})},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ln := msrptest.NewListener()
		served, echoed := make(chan error, 1), make(chan error, 1)
		go func() { served <- r.Serve(ctx, "edge", ln) }()
		var out strings.Builder
		go func() { echoed <- echo(ctx, ln.Dial(), relayURI, "alice", "secret", &out) }()
		synctest.Wait()
		path, ok := strings.CutPrefix(strings.TrimSpace(out.String()), "path: ")
		if !ok {
			t.Fatalf("no path: %q", out.String())
		}
		p := msrptest.NewPeer(t, ln.Dial())
		p.Send("MSRP abcd SEND\nTo-Path: " + path + "\nFrom-Path: msrp://p.example:9/p;tcp\nMessage-ID: m123\nContent-Type: text/plain\n\nhello\n-------abcd$")
		for range 2 {
			if f := p.Next(); f.Method == "SEND" {
				if string(f.Body) != "hello" {
					t.Errorf("%q", f.Body)
				}
				p.Respond(f, 200)
			} else if f.TID != "abcd" || f.Code != 200 {
				t.Errorf("%s", f.Raw)
			}
		}
		cancel()
		if err := <-echoed; err != io.EOF {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		r.Close()
	})
}
