package hook

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wantFaults fails unless err has these lines, or what they begin with.
func wantFaults(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want %q", want)
	}
	got := strings.Split(err.Error(), "\n")
	if len(got) != len(want) {
		t.Fatalf("%d faults, want %d:\n%v", len(got), len(want), err)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("fault %q, want %q", got[i], want[i])
		}
	}
}

func TestStatic(t *testing.T) {
	short, long := strings.Repeat("0f", 16), strings.Repeat("0f", 32)
	users := map[string]User{"alice": {Password: "x"}, "bob": {HA1: short}, "dave": {HA1: long}}
	s, err := NewStatic(users)
	if err != nil {
		t.Fatal(err)
	}
	clear(users) // it has its own
	done := Reply{Verdict: Done}
	for _, tt := range []struct {
		user, algorithm string
		want            AuthReply
	}{
		{"alice", "MD5", AuthReply{Reply: done, Password: "x"}},
		{"alice", "SHA-256", AuthReply{Reply: done, Password: "x"}},
		{"bob", "MD5", AuthReply{Reply: done, HA1: short}},
		{"bob", "SHA-256", AuthReply{}},
		{"dave", "MD5", AuthReply{}},
		{"dave", "SHA-256", AuthReply{Reply: done, HA1: long}},
		{"carol", "MD5", AuthReply{}},
		{"Alice", "MD5", AuthReply{}},
		{"", "MD5", AuthReply{}},
	} {
		q := AuthRequest{Username: tt.user, Algorithm: tt.algorithm}
		got, err := s.Call(t.Context(), &q)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s, %s: %s%v", tt.user, tt.algorithm, diff, err)
		}
		if got.Verdict == Done && got.check(&q) != nil {
			t.Errorf("%s, %s: %v", tt.user, tt.algorithm, got.check(&q))
		}
	}
	ctx, q := t.Context(), &AuthRequest{Username: "bob", Algorithm: "MD5"}
	if n := testing.AllocsPerRun(100, func() { _, _ = s.Call(ctx, q) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNewStaticFaults(t *testing.T) {
	ha1 := strings.Repeat("0f", 16)
	_, err := NewStatic(map[string]User{"": {Password: "x"}, "a": {}, "b": {Password: "x", HA1: ha1}, "c": {HA1: "z"}, "d": {HA1: ha1 + "0f"}})
	wantFaults(t, err, "a user has no name; ", `user "a" has neither password nor ha1; `, `user "b" has both password and ha1; `,
		`ha1 of user "c" is not lower-case hex of 32`, `ha1 of user "d" is not lower-case hex`)
	if strings.Contains(err.Error(), ha1) {
		t.Errorf("the hash is shown: %v", err)
	}
}

func TestTable(t *testing.T) {
	table, err := NewTable([]Rule{
		{To: "blocked.example", Deny: true, Status: 481, Reason: "no"},
		{To: "*.Example.", Scheme: "msrps", Interface: "core"},
		{To: "10.0.0.0/8", From: "192.0.2.0/24", Interface: "core"},
		{To: "::ffff:172.16.0.0/108", Interface: "mapped"},
		{To: "2001:db8::1", Interface: "core"},
		{From: "fe80::/10", Interface: "local"},
		{To: "plain.test", Scheme: "msrp", Interface: "plain"},
		{Listener: "web", Interface: "edge"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	from := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	for _, tt := range []struct {
		q    InterfaceRequest
		want string // "" = no opinion, "no" = refused
	}{
		{InterfaceRequest{Host: "BLOCKED.example"}, "no"},
		{InterfaceRequest{Host: "blocked.example", Secure: true, Listener: "web"}, "no"}, // first match wins
		{InterfaceRequest{Host: "blocked.example."}, "no"},
		{InterfaceRequest{Host: "a.B.Example", Secure: true}, "core"},
		{InterfaceRequest{Host: "a.example.", Secure: true}, "core"},
		{InterfaceRequest{Host: "a.example"}, ""},
		{InterfaceRequest{Host: "example", Secure: true}, ""},
		{InterfaceRequest{Host: ".example", Secure: true}, ""},
		{InterfaceRequest{Host: "badexample", Secure: true}, ""},
		{InterfaceRequest{Host: "plain.test"}, "plain"},
		{InterfaceRequest{Host: "plain.test", Secure: true}, ""},
		{InterfaceRequest{Host: "10.1.2.3", RemoteAddr: from("192.0.2.9:1")}, "core"},
		{InterfaceRequest{Host: "::ffff:10.1.2.3", RemoteAddr: from("[::ffff:192.0.2.9]:1")}, "core"},
		{InterfaceRequest{Host: "10.1.2.3", RemoteAddr: from("192.0.3.9:1")}, ""},
		{InterfaceRequest{Host: "10.1.2.3"}, ""},
		{InterfaceRequest{Host: "10.example", RemoteAddr: from("192.0.2.9:1")}, ""},
		{InterfaceRequest{Host: "172.16.255.1"}, "mapped"},
		{InterfaceRequest{Host: "2001:DB8:0::1"}, "core"},
		{InterfaceRequest{Host: "2001:db8::2"}, ""},
		{InterfaceRequest{Host: "x", RemoteAddr: from("[fe80::1%eth0]:1")}, "local"},
		{InterfaceRequest{Host: "anything", Listener: "web"}, "edge"},
		{InterfaceRequest{Host: "anything", Listener: "other"}, ""},
		{InterfaceRequest{}, ""},
	} {
		a, err := table.Call(t.Context(), &tt.q)
		want := InterfaceReply{}
		switch tt.want {
		case "":
		case "no":
			want.Reply = Reply{Verdict: Deny, Status: 481, Reason: "no"}
		default:
			want.Verdict, want.Interface = Done, tt.want
		}
		if err != nil || !reflect.DeepEqual(a, want) {
			t.Errorf("%+v: %+v %v", tt.q, a, err)
		}
	}
	ctx := t.Context()
	for _, host := range []string{"2001:db8::1", "10.1.2.3", "other.test", "a.b.example."} {
		q := &InterfaceRequest{Host: host}
		if n := testing.AllocsPerRun(100, func() { _, _ = table.Call(ctx, q) }); n != 0 {
			t.Errorf("%s: %v allocations", host, n)
		}
	}
}

func TestNewTableFaults(t *testing.T) {
	known := func(name string) bool { return name == "core" }
	for _, tt := range []struct {
		rule Rule
		want string // without "rule 0: "; "" = none
	}{
		{Rule{Interface: "core"}, ""},
		{Rule{To: "a-b_c.example.com", From: "::1", Scheme: "msrp", Interface: "core"}, ""},
		{Rule{To: "localhost", Deny: true, Status: 481, Reason: "no"}, ""},
		{Rule{To: "a/b", Interface: "core"}, `to: "a/b" is neither`},
		{Rule{To: "*", Interface: "core"}, `to: "*" is neither`},
		{Rule{To: "*.", Interface: "core"}, `to: "*." is neither`},
		{Rule{To: "*example.com", Interface: "core"}, `to: "*example.com" is neither`},
		{Rule{To: "a.*.com", Interface: "core"}, `to: "a.*.com" is neither`},
		{Rule{To: "a..com", Interface: "core"}, `to: "a..com" is neither`},
		{Rule{To: "[::1]", Interface: "core"}, `to: "[::1]" is neither`},
		{Rule{To: "10.0.0.256", Interface: "core"}, `to: "10.0.0.256" is neither`},
		{Rule{To: "10.0.0.0/33", Interface: "core"}, `to: "10.0.0.0/33" is neither`},
		{Rule{To: "bücher.example", Interface: "core"}, `to: "bücher.example" is neither`},
		{Rule{From: "example.com", Interface: "core"}, `from: "example.com" is no address; `},
		{Rule{Scheme: "sip", Interface: "core"}, `scheme: "sip" is not msrp or msrps; `},
		{Rule{}, "has neither interface nor deny; "},
		{Rule{Interface: "none"}, `interface: there is no "none"; `},
		{Rule{Interface: "core", Deny: true}, "has both interface and deny; "},
		{Rule{Interface: "core", Reason: "x"}, "has a status or a reason, but no deny; "},
		{Rule{Deny: true, Status: 500}, "status 500 is not one of [400 403"},
		{Rule{Deny: true, Reason: "a\nb"}, `reason "a\nb" has control characters`},
	} {
		t.Run(fmt.Sprint(tt.rule), func(t *testing.T) {
			_, err := NewTable([]Rule{tt.rule}, known)
			if tt.want != "" {
				wantFaults(t, err, "rule 0: "+tt.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	_, err := NewTable([]Rule{{To: "*", From: "x", Scheme: "y"}, {Interface: "core"}, {Deny: true, Status: 1}}, known)
	wantFaults(t, err, "rule 0: to: ", "rule 0: from: ", "rule 0: scheme: ", "rule 0: has neither", "rule 2: status 1 ")
}
