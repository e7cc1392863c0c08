package authenticate_test

import (
	"testing"

	"github.com/parley-msrp/parley/sdk/abi"
	"github.com/parley-msrp/parley/sdk/go/authenticate"
	"github.com/parley-msrp/parley/sdk/go/parleytest"
)

// TestDigest has the examples of RFC 2617 §3.5 and RFC 7616 §3.9.1.
func TestDigest(t *testing.T) {
	h := parleytest.New(t)
	for _, tt := range []struct {
		password string
		request  parleytest.Fields
		ha1      string
		matches  bool
	}{
		{"Circle Of Life", parleytest.Fields{
			"algorithm": "MD5", "username": "Mufasa", "realm": "testrealm@host.com", "method": "GET", "uri": "/dir/index.html",
			"nonce": "dcd98b7102dd2f0e8b11d0f600bfb0c093", "nc": "00000001", "cnonce": "0a4f113b", "qop": "auth",
			"response": "6629fae49393a05397450978507c4ef1",
		}, "939e7578ed9e3c518a452acee763bce9", true},
		{"Circle of Life", parleytest.Fields{
			"algorithm": "SHA-256", "username": "Mufasa", "realm": "http-auth@example.org", "method": "GET", "uri": "/dir/index.html",
			"nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", "nc": "00000001", "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
			"response": "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
		}, "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232", true},
		{"circle of life", parleytest.Fields{"algorithm": "MD5", "response": "6629fae49393a05397450978507c4ef1"}, "a7158c4b0a8b9d0c5a1ad83aa7d8a5e1", false},
		{"", parleytest.Fields{"algorithm": "MD5"}, "", false},
	} {
		authenticate.Handle(func(r authenticate.Request) authenticate.Reply {
			ha1, err := r.HA1(tt.password)
			if tt.matches && ha1 != tt.ha1 || err != nil {
				t.Errorf("ha1 %s, %v, want %s", ha1, err, tt.ha1)
			}
			if ok, err := r.Matches(ha1); ok != tt.matches || err != nil {
				t.Errorf("%v: matches %v, %v", tt.request, ok, err)
			}
			return authenticate.Next()
		})
		h.Ask(authenticate.Answer, tt.request)
	}
	if _, err := authenticate.HA1("SHA-512-256", "", "", ""); err != abi.ErrInval {
		t.Errorf("an unknown algorithm: %v", err)
	}
}
