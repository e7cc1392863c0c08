package main

import (
	"maps"
	"strings"
	"testing"

	"github.com/parley-msrp/parley/sdk/go/parleytest"
	"github.com/parley-msrp/parley/sdk/go/selectinterface"
)

// asks is a request that matches nothing below, changed by more.
func asks(more parleytest.Fields) parleytest.Fields {
	f := parleytest.Fields{
		"host": "elsewhere.example", "port": 2855, "secure": true, "listener": "edge", "remote_addr": "198.51.100.9:1024", "username": "alice",
		"offer": []parleytest.Fields{{"name": "core", "address": "192.0.2.1", "listener": "inner"}, {"name": "edge"}},
	}
	maps.Copy(f, more)
	return f
}

func TestAnswer(t *testing.T) {
	const conditions = `{"rules": [
		{"to": "core.example.com", "interface": "core"},
		{"to": ["*.core.example.com", "10.0.0.0/8", "2001:db8::/32", "::ffff:192.0.2.0/120"], "interface": "core", "address": "192.0.2.7"},
		{"to": "blocked.example", "deny": {"status": 404, "reason": "not served"}},
		{"from": ["203.0.113.0/24", "2001:db8:1::1"], "interface": "edge"},
		{"attribute": {"group": ["staff", "boss"], "floor": "3"}, "interface": "core", "set": {"via": "inside"}},
		{"user": ["bob", "carol"], "scheme": "msrp", "interface": "edge"},
		{"listener": "inner", "deny": {}}
	]}`
	for _, tt := range []struct {
		name    string
		request parleytest.Fields
		want    string
	}{
		{"nothing", nil, "next"},
		{"a domain", parleytest.Fields{"host": "core.example.com"}, "done interface=core"},
		{"a domain in capitals, with its dot", parleytest.Fields{"host": "Core.Example.COM."}, "done interface=core"},
		{"below a domain", parleytest.Fields{"host": "a.b.core.example.com"}, "done interface=core address=192.0.2.7"},
		{"beside a domain", parleytest.Fields{"host": "notcore.example.com"}, "next"},
		{"a network", parleytest.Fields{"host": "10.1.2.3"}, "done interface=core address=192.0.2.7"},
		{"a network, IPv6", parleytest.Fields{"host": "2001:db8::1"}, "done interface=core address=192.0.2.7"},
		{"a network, IPv4 as IPv6", parleytest.Fields{"host": "::ffff:10.1.2.3"}, "done interface=core address=192.0.2.7"},
		{"a network that was written as IPv6", parleytest.Fields{"host": "192.0.2.44"}, "done interface=core address=192.0.2.7"},
		{"another network", parleytest.Fields{"host": "11.1.2.3"}, "next"},
		{"refused", parleytest.Fields{"host": "blocked.example"}, "deny status=404 reason=not served"},
		{"from", parleytest.Fields{"remote_addr": "203.0.113.200:5"}, "done interface=edge"},
		{"from, IPv6", parleytest.Fields{"remote_addr": "[2001:db8:1::1]:5"}, "done interface=edge"},
		{"from nowhere", parleytest.Fields{"remote_addr": ""}, "next"},
		{"attributes", parleytest.Fields{"attribute.group": "boss", "attribute.floor": "3"}, "done interface=core attribute.via=inside"},
		{"one attribute of two", parleytest.Fields{"attribute.group": "boss"}, "next"},
		{"another attribute", parleytest.Fields{"attribute.group": "guest", "attribute.floor": "3"}, "next"},
		{"user and scheme", parleytest.Fields{"username": "carol", "secure": false}, "done interface=edge"},
		{"the user only", parleytest.Fields{"username": "carol"}, "next"},
		{"listener", parleytest.Fields{"listener": "inner"}, "deny"},
		{"the first counts", parleytest.Fields{"host": "10.1.2.3", "listener": "inner"}, "done interface=core address=192.0.2.7"},
		{"not offered", parleytest.Fields{"host": "core.example.com", "offer": []parleytest.Fields{{"name": "edge"}}}, `fail reason=interface "core" is not one of ["edge"]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := parleytest.New(t)
			if err := h.Load(conditions); err != nil {
				t.Fatal(err)
			}
			if got := h.Ask(selectinterface.Answer, asks(tt.request)).String(); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestDefault(t *testing.T) {
	for config, want := range map[string]string{
		`{"default": {"interface": "edge", "address": "192.0.2.9"}}`:                               "done interface=edge address=192.0.2.9",
		`{"rules": [{"user": "bob", "interface": "core"}], "default": {"deny": {"reason": "no"}}}`: "deny reason=no",
		`{"rules": [{"interface": "core"}], "default": {"deny": {}}}`:                              "done interface=core",
	} {
		h := parleytest.New(t)
		if err := h.Load(config); err != nil {
			t.Fatal(err)
		}
		if got := h.Ask(selectinterface.Answer, asks(nil)).String(); got != want {
			t.Errorf("%s: %s, want %s", config, got, want)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for config, want := range map[string]string{
		"":                "there is no configuration",
		`{}`:              "there are neither rules nor a default",
		`{"rules": [{}]}`: "rules.0: has neither interface nor deny",
		`{"rules": [{"interface": "a", "deny": {}}]}`:                           "rules.0: has both",
		`{"rules": [{"interface": "a"}, {"to": "-", "interfaces": "a"}]}`:       `unknown key "interfaces"`,
		`{"rules": [{"to": "a..b", "interface": "a"}]}`:                         `rules.0: to: "a..b" is neither`,
		`{"rules": [{"to": "", "interface": "a"}]}`:                             `rules.0: to: "" is neither`,
		`{"rules": [{"to": "10.0.0", "interface": "a"}]}`:                       `rules.0: to: "10.0.0" is neither`,
		`{"rules": [{"to": "a.*.b", "interface": "a"}]}`:                        `rules.0: to: "a.*.b" is neither`,
		`{"rules": [{"to": [], "interface": "a"}]}`:                             "rules.0: to: is a list of nothing",
		`{"rules": [{"from": "example.com", "interface": "a"}]}`:                `rules.0: from: "example.com" is no address`,
		`{"rules": [{"scheme": "sip", "interface": "a"}]}`:                      `rules.0: scheme: "sip"`,
		`{"rules": [{"attribute": {"group": []}, "interface": "a"}]}`:           "rules.0: attribute.group: is a list of nothing",
		`{"rules": [{"attribute": {"group": 7}, "interface": "a"}]}`:            "cannot be anything but a text",
		`{"rules": [{"interface": "a", "address": "eth0"}]}`:                    `rules.0: address: "eth0"`,
		`{"rules": [{"deny": {"status": 200}}]}`:                                "rules.0: deny.status: 200",
		`{"rules": [{"deny": {"reason": "a\nb"}}]}`:                             "rules.0: deny.reason",
		`{"default": {"address": "192.0.2.1"}}`:                                 "default: has neither",
		`{"rules": [{}, {"deny": {"status": 1}}], "default": {"interface":""}}`: "rules.0: has neither interface nor deny\nrules.1: deny.status: 1 is not one of [400 403 404 413 415 423 481 501 506]\ndefault: has neither",
	} {
		if err := parleytest.New(t).Load(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", config, err, want)
		}
	}
}
