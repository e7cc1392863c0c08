package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/parley-msrp/parley/sdk/go/authenticate"
	"github.com/parley-msrp/parley/sdk/go/parleytest"
)

const (
	md5Hash    = "939e7578ed9e3c518a452acee763bce9"
	sha256Hash = "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232"
)

func configOf(t *testing.T, format, users string) string {
	t.Helper()
	b, err := json.Marshal(map[string]string{"format": format, "users": users})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAnswer(t *testing.T) {
	const plain = "# staff\nalice,example.com,wonderland\nbob,,\"se,cret\"\nbob,example.com,other\n"
	const named = "\uFEFFuser,realm,password,ha1,group,floor,max_expires\n" +
		"alice,example.com,wonderland,,eu,3,10m\n" +
		"carol,example.com,," + md5Hash + ",us,,\n" +
		"dave,example.com,," + md5Hash + ",,,\n" +
		"dave,example.com,," + sha256Hash + ",,,\n"
	const htdigest = "# staff\n\nalice:example.com:" + md5Hash + "\r\nalice:realm:with:colons:" + "ABCDEFabcdef00000000000000000000" + "\ndave:example.com:" + sha256Hash
	for _, tt := range []struct {
		name    string
		format  string
		users   string
		request parleytest.Fields
		want    string
	}{
		{"csv", "csv", plain, parleytest.Fields{"username": "alice", "realm": "example.com", "algorithm": "MD5"}, "done password=wonderland"},
		{"csv, another realm", "csv", plain, parleytest.Fields{"username": "alice", "realm": "example.org", "algorithm": "MD5"}, "next"},
		{"csv, any realm", "csv", plain, parleytest.Fields{"username": "bob", "realm": "example.org", "algorithm": "MD5"}, "done password=se,cret"},
		{"csv, this realm rather than any", "csv", plain, parleytest.Fields{"username": "bob", "realm": "example.com", "algorithm": "MD5"}, "done password=other"},
		{"csv, nobody", "csv", plain, parleytest.Fields{"username": "eve", "realm": "example.com"}, "next"},
		{"csv, a parameter without columns", "csv", plain, parleytest.Fields{"username": "alice", "realm": "example.com", "param.group": "eu"}, "fail reason=parameter group: the users have no such column"},
		{"no users", "csv", "", parleytest.Fields{"username": "alice"}, "next"},
		{"attributes", "csv", named, parleytest.Fields{"username": "alice", "realm": "example.com", "algorithm": "SHA-256"}, "done password=wonderland max_expires_ms=600000 attribute.group=eu attribute.floor=3"},
		{"of the group", "csv", named, parleytest.Fields{"username": "alice", "realm": "example.com", "param.group": "eu"}, "done password=wonderland max_expires_ms=600000 attribute.group=eu attribute.floor=3"},
		{"of one of the groups", "csv", named, parleytest.Fields{"username": "carol", "realm": "example.com", "algorithm": "MD5", "param.group": []string{"eu", "us"}}, "done ha1=" + md5Hash + " attribute.group=us"},
		{"of another group", "csv", named, parleytest.Fields{"username": "alice", "realm": "example.com", "param.group": "us"}, "next"},
		{"of no group", "csv", named, parleytest.Fields{"username": "dave", "realm": "example.com", "algorithm": "MD5", "param.group": "us"}, "next"},
		{"of the group, but not on the floor", "csv", named, parleytest.Fields{"username": "alice", "realm": "example.com", "param.group": "eu", "param.floor": "4"}, "next"},
		{"an MD5 hash is for MD5", "csv", named, parleytest.Fields{"username": "carol", "realm": "example.com", "algorithm": "SHA-256"}, "next"},
		{"both hashes, MD5", "csv", named, parleytest.Fields{"username": "dave", "realm": "example.com", "algorithm": "MD5"}, "done ha1=" + md5Hash},
		{"both hashes, SHA-256", "csv", named, parleytest.Fields{"username": "dave", "realm": "example.com", "algorithm": "SHA-256"}, "done ha1=" + sha256Hash},
		{"htdigest", "htdigest", htdigest, parleytest.Fields{"username": "alice", "realm": "example.com", "algorithm": "MD5"}, "done ha1=" + md5Hash},
		{"htdigest, a realm with colons", "htdigest", htdigest, parleytest.Fields{"username": "alice", "realm": "realm:with:colons", "algorithm": "MD5"}, "done ha1=abcdefabcdef00000000000000000000"},
		{"htdigest, SHA-256", "htdigest", htdigest, parleytest.Fields{"username": "dave", "realm": "example.com", "algorithm": "SHA-256"}, "done ha1=" + sha256Hash},
		{"htdigest, not for MD5", "htdigest", htdigest, parleytest.Fields{"username": "dave", "realm": "example.com", "algorithm": "MD5"}, "next"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := parleytest.New(t)
			if err := h.Load(configOf(t, tt.format, tt.users)); err != nil {
				t.Fatal(err)
			}
			if got := h.Ask(authenticate.Answer, tt.request).String(); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tt := range []struct{ name, format, users, want string }{
		{"no format", "", "", "format: is needed"},
		{"another format", "ldif", "", `format: "ldif" is not csv or htdigest`},
		{"twice", "csv", "alice,example.com,secret1\nbob,example.com,secret2\nalice,example.com,secret3\n", `users: line 3: user "alice" is in line 1 already`},
		{"twice the same hash", "htdigest", "a:r:" + md5Hash + "\na:r:" + md5Hash, `users: line 2: user "a" is in line 1 already`},
		{"a hash and a password", "csv", "user,realm,password,ha1\na,r,secret1,\na,r,," + md5Hash, `users: line 3: user "a" is in line 2 already`},
		{"hashes of one user who is in two groups", "csv", "user,realm,ha1,group\na,r," + md5Hash + ",x\na,r," + sha256Hash + ",y", "line 3"},
		{"too few columns", "csv", "alice,secret1", "users: line 1: 2 columns, not 3 (user, realm, password)"},
		{"no user", "csv", ",example.com,secret1", "line 1: there is no user"},
		{"no password", "csv", "alice,example.com,", "line 1: there is neither password nor ha1"},
		{"both", "csv", "user,realm,password,ha1\na,r,secret1," + md5Hash, "line 2: there are both"},
		{"a hash without a realm", "csv", "user,ha1\na," + md5Hash, "line 2: there is no realm"},
		{"a hash that is none", "csv", "user,realm,ha1\na,r,secret1", "line 2: the hash is not 32"},
		{"a hash that is none, either", "htdigest", "a:r:zz9e7578ed9e3c518a452acee763bce9", "line 1: the hash is not 32"},
		{"no realm", "htdigest", "alice:" + md5Hash, "line 1: not user:realm:hash"},
		{"not two", "htdigest", "secret1", "line 1: not user:realm:hash"},
		{"a lifetime that is none", "csv", "user,password,max_expires\na,secret1,10", "line 2: max_expires"},
		{"a column twice", "csv", "user,password,group,group\n", "line 1: column 4"},
		{"a quote that does not end", "csv", "a,r,secret1\nb,r,\"secret2\nc,r,secret3", "users: line 2: "},
		{"not UTF-8", "csv", "a,r,b\nc,r,\xe4", "users: line 2 is not UTF-8"},
		{"more than one fault", "csv", "a\nb", "users: line 1: 1 columns, not 3 (user, realm, password); users: line 2: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := parleytest.New(t).Load(configOf(t, tt.format, tt.users))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows a password: %v", err)
			}
		})
	}
	for config, want := range map[string]string{
		"":                            "there is no configuration",
		`{"format": "csv", "fil": 1}`: `unknown key "fil"`,
		`{"format": 1}`:               "format: cannot be a number",
	} {
		if err := parleytest.New(t).Load(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", config, err, want)
		}
	}
}

func TestManyFaults(t *testing.T) {
	err := parleytest.New(t).Load(configOf(t, "htdigest", strings.Repeat("x\n", 1000)))
	if err == nil || strings.Count(err.Error(), "line") != maxFaults {
		t.Errorf("%v", err)
	}
}
