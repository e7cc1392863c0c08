package msrp

import (
	"strings"
	"testing"
)

// TestURIEqual is the table of RFC 4975 §6.1 (CORE-12..17).
func TestURIEqual(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"msrp://H.example:7777/aB;tcp", "MSRP://h.EXAMPLE:7777/aB;TCP", true},
		{"msrp://h.example:7777/aB;tcp", "msrp://h.example:7777/ab;tcp", false},
		{"msrp://bob@h.example:7777/x;tcp", "msrp://h.example:7777/x;tcp", true},
		{"msrp://h.example/x;tcp", "msrp://h.example:2855/x;tcp", false},
		{"msrps://h.example:7777/x;tcp", "msrp://h.example:7777/x;tcp", false},
		{"msrp://%68.example:7777/x;tcp", "msrp://h.example:7777/x;tcp", true},
		{"msrp://%48.example:7777/x;tcp", "msrp://h.example:7777/x;tcp", true},
		{"msrp://%21.example:7777/x;tcp", "msrp://!.example:7777/x;tcp", false},
		{"msrp://h.example:7777/x;tcp", "msrp://h.example:7777/x;ws", false},
		{"msrp://h.example:7777;tcp", "msrp://h.example:7777/x;tcp", false},
		{"msrp://h.example:7777/x;tcp;a=b", "msrp://h.example:7777/x;tcp;c", true},
		{"msrp://[2001:db8::1]:1/x;tcp", "msrp://[2001:DB8:0:0:0:0:0:1]:1/x;tcp", true},
		{"msrp://[2001:db8::1]:1/x;tcp", "msrp://[2001:db8::2]:1/x;tcp", false},
		{"msrp://192.0.2.1:1/x;tcp", "msrp://192.0.2.1:1/x;tcp", true},
		{"msrp://192.0.2.1:1/x;tcp", "msrp://[::ffff:192.0.2.1]:1/x;tcp", false},
		{"msrp://h.example:1/a/../b;tcp", "msrp://h.example:1/b;tcp", false},
	} {
		a, err := ParseURI(tt.a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := ParseURI(tt.b)
		if err != nil {
			t.Fatal(err)
		}
		if a.Equal(b) != tt.want || b.Equal(a) != tt.want {
			t.Errorf("%s = %s: %v", tt.a, tt.b, !tt.want)
		}
	}
}

func TestParseURI(t *testing.T) {
	long := strings.Repeat("s", 70)
	for _, tt := range []struct {
		in   string
		want URI
	}{
		{"msrp://h.example:2855/abc;tcp", URI{Host: "h.example", Port: 2855, Session: "abc", Transport: "tcp"}},
		{"msrps://bob@h.example:443;ws", URI{Secure: true, User: "bob", Host: "h.example", Port: 443, Transport: "ws"}},
		{"msrp://h.example;tcp", URI{Host: "h.example", Transport: "tcp"}},
		{"msrp://[2001:db8::1]:2855/x;tcp", URI{Host: "2001:db8::1", Port: 2855, Session: "x", Transport: "tcp"}},
		{"msrp://h:1/a+b=c/d~e_f-g.h;tcp;p;q=1", URI{Host: "h", Port: 1, Session: "a+b=c/d~e_f-g.h", Transport: "tcp", Params: ";p;q=1"}},
		{"msrp://h:65535/" + long + ";tcp", URI{Host: "h", Port: 65535, Session: long, Transport: "tcp"}},
		{"msrp://a%20b@h%2D:1;tcp", URI{User: "a%20b", Host: "h%2D", Port: 1, Transport: "tcp"}},
		{"msrp://1.2.3:1;tcp", URI{Host: "1.2.3", Port: 1, Transport: "tcp"}}, // a name
	} {
		u, err := ParseURI(tt.in)
		if err != nil || u != tt.want {
			t.Errorf("%s: %+v, %v", tt.in, u, err)
		}
		if u.String() != tt.in {
			t.Errorf("%s prints as %s", tt.in, u)
		}
	}
	for _, tt := range []struct{ in, rule string }{
		{"", "URI scheme"},
		{"http://h:1/SECRET;tcp", "URI scheme"},
		{"msrpx://h:1/SECRET;tcp", "URI scheme"},
		{"msrp:h;tcp", "URI scheme"},
		{"msrp:h/SECRET;tcp", "URI scheme"},
		{"msrp:/h:1/SECRET;tcp", "URI scheme"},
		{"h/SECRET;tcp", "URI scheme"},
		{"msrp://h:1/SECRET", "URI without transport"}, // CORE-1
		{"msrp://h:1/SECRET;", "URI transport"},
		{"msrp://h:1/SECRET;t-p", "URI transport"},
		{"msrp://h:1/;tcp", "URI session-id"},
		{"msrp://h:1/SECRET%20;tcp", "URI session-id"},
		{"msrp://h:1/SECRET@x;tcp", "URI session-id"},
		{"msrp://h:1/SECRET;tcp;=x", "URI parameter"},
		{"msrp://h:1/SECRET;tcp;a=", "URI parameter"},
		{"msrp://h:1/SECRET;tcp;", "URI parameter"},
		{"msrp://u:p@h:1/SECRET;tcp", "URI userinfo"}, // CORE-6
		{"msrp://:1/SECRET;tcp", "URI host"},
		{"msrp:///SECRET;tcp", "URI host"},
		{"msrp://h h:1/SECRET;tcp", "URI host"},
		{"msrp://h\x00:1/SECRET;tcp", "URI host"},
		{"msrp://[::1:1/SECRET;tcp", "URI host"},
		{"msrp://[::1]x:1/SECRET;tcp", "URI host"},
		{"msrp://[1.2.3.4]:1/SECRET;tcp", "URI host"},
		{"msrp://[fe80::1%25eth0]:1/SECRET;tcp", "URI host"},
		{"msrp://::1:1/SECRET;tcp", "URI host"},
		{"msrp://h:/SECRET;tcp", "URI port"},
		{"msrp://h:0/SECRET;tcp", "URI port"},
		{"msrp://h:65536/SECRET;tcp", "URI port"},
		{"msrp://h:+1/SECRET;tcp", "URI port"},
		{"msrp://192.0.2.1/SECRET;tcp", "URI with an address but no port"}, // CORE-2, RELAY-21
		{"msrp://[::1]/SECRET;tcp", "URI with an address but no port"},
		{"msrp://%3192.0.2.%31/SECRET;tcp", "URI with an address but no port"},
	} {
		_, err := ParseURI(tt.in)
		se, ok := err.(*SyntaxError)
		if !ok || se.Rule != tt.rule {
			t.Errorf("%q: %v, want %s", tt.in, err, tt.rule)
		} else if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%q: the error shows the session-id: %v", tt.in, err) // RELAY-124
		}
	}
}

func TestURIShort(t *testing.T) {
	u, _ := ParseURI("msrps://bob@h.example:1/abcdefghijkl;tcp;x=y")
	if u.Short() != "msrps://h.example:1/abcd~;tcp" {
		t.Error(u.Short())
	}
}

func TestByteRange(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want ByteRange
	}{
		{"1-5/5", ByteRange{1, 5, 5}},
		{"1-*/*", ByteRange{1, Unknown, Unknown}},
		{"1-0/0", ByteRange{1, 0, 0}},
		{"11-10/20", ByteRange{11, 10, 20}},
		{"21-20/20", ByteRange{21, 20, 20}},
		{"5-7/*", ByteRange{5, 7, Unknown}},
		{"100000000000000000-*/*", ByteRange{1e17, Unknown, Unknown}},
	} {
		if r, err := ParseByteRange(tt.in); err != nil || r != tt.want || r.String() != tt.in {
			t.Errorf("%s: %v %v", tt.in, r, err)
		}
	}
	for _, in := range []string{
		"", "1", "1-", "1-5", "1-5/", "-5/5", "*-5/5", "1-5/5 ", " 1-5/5", "1-5/5/5", "0-5/5", "0-0/0", "5-3/9", "1-6/5", "7-*/5",
		"1-5/x", "+1-5/5", "1--5/5", "100000000000000001-*/*", "99999999999999999999-*/*", "1-99999999999999999999/*",
	} {
		if r, err := ParseByteRange(in); err == nil { // CORE-74, CORE-162
			t.Errorf("%q: %v", in, r)
		}
	}
}

func FuzzURI(f *testing.F) {
	f.Add("msrp://h.example:2855/abc;tcp")
	f.Add("MSRPS://bob@[2001:db8::1]:443/a+b=c/~;ws;x=y")
	f.Add("msrp://%68.example:1;tcp;;")
	f.Fuzz(func(t *testing.T, in string) {
		u, err := ParseURI(in)
		if err != nil {
			return
		}
		v, err := ParseURI(u.String())
		if err != nil || u != v || !u.Equal(v) {
			t.Errorf("%q: %+v, then %+v, %v", in, u, v, err)
		}
		if _, err := ParseURI(u.Short()); err != nil && len(u.Session) <= 4 {
			t.Errorf("%q: short %q: %v", in, u.Short(), err)
		}
	})
}

func FuzzByteRange(f *testing.F) {
	f.Add("1-5/5")
	f.Add("1-*/*")
	f.Add("18446744073709551615-9223372036854775807/1")
	f.Fuzz(func(t *testing.T, in string) {
		r, err := ParseByteRange(in)
		if err != nil {
			return
		}
		if r.Start < 1 || r.End < Unknown || r.Total < Unknown || r.End != Unknown && r.End < r.Start-1 || r.Total != Unknown && r.End > r.Total {
			t.Errorf("%q: %+v", in, r)
		}
		if again, err := ParseByteRange(r.String()); err != nil || again != r {
			t.Errorf("%q: %v %v", in, again, err)
		}
	})
}
