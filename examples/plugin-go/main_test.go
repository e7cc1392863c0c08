package main

import (
	"testing"

	"github.com/parley-msrp/parley/sdk/go/authenticate"
	"github.com/parley-msrp/parley/sdk/go/parleytest"
)

func TestGuests(t *testing.T) {
	h := parleytest.New(t)
	for _, tt := range []struct{ user, listener, want string }{
		{"guest", "lobby", "next"},
		{"guest", "edge", "deny status=403 reason=guests are not allowed here"},
		{"alice", "edge", "next"},
	} {
		request := parleytest.Fields{"username": tt.user, "listener": tt.listener, "param.listener": "lobby"}
		if got := h.Ask(authenticate.Answer, request).String(); got != tt.want {
			t.Errorf("%s at %s: %s, want %s", tt.user, tt.listener, got, tt.want)
		}
	}
}
