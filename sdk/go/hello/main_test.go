package main

import (
	"testing"

	"github.com/parley-msrp/parley/sdk/go/authenticate"
	"github.com/parley-msrp/parley/sdk/go/parleytest"
)

func TestAnswer(t *testing.T) {
	for _, tt := range []struct {
		name    string
		config  string
		request parleytest.Fields
		want    string
	}{
		{"alice", "secret", parleytest.Fields{"username": "alice"}, "done password=secret"},
		{"alice, without a configuration", "", parleytest.Fields{"username": "alice"}, "done password=wonderland"},
		{"somebody else", "secret", parleytest.Fields{"username": "bob"}, "next"},
		{"somebody else, who is meant", "secret", parleytest.Fields{"username": "bob", "param.user": "bob"}, "done password=secret"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := parleytest.New(t)
			if err := h.Load(tt.config); err != nil {
				t.Fatal(err)
			}
			if got := h.Ask(authenticate.Answer, tt.request).String(); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	if err := parleytest.New(t).Load("two\nlines"); err == nil {
		t.Error("loaded")
	}
}
