// Command auth-file is a plugin that answers authenticate from users in its
// configuration, in CSV or as htdigest writes them.
package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parley-msrp/parley/sdk/abi"
	parley "github.com/parley-msrp/parley/sdk/go"
	"github.com/parley-msrp/parley/sdk/go/authenticate"
	"github.com/parley-msrp/parley/sdk/go/jsonconfig"
)

type config struct {
	Format string `json:"format"`
	Users  string `json:"users"`
}

var users table

func init() {
	parley.OnLoad(load)
	authenticate.Handle(answer)
}

func main() {}

func load(text string) error {
	var c config
	if err := jsonconfig.Decode(text, &c); err != nil {
		return err
	}
	// JSON has no other octets than UTF-8: each that was none has become this.
	if i := strings.IndexRune(c.Users, '\uFFFD'); i >= 0 {
		return fmt.Errorf("users: line %d is not UTF-8", 1+strings.Count(c.Users[:i], "\n"))
	}
	var t table
	var err error
	switch c.Format {
	case "csv":
		t, err = parseCSV(c.Users)
	case "htdigest":
		t, err = parseHTDigest(c.Users)
	case "":
		return errors.New("format: is needed: csv or htdigest")
	default:
		return fmt.Errorf("format: %q is not csv or htdigest", c.Format)
	}
	if err != nil {
		return err
	}
	if len(t.users) == 0 {
		parley.Warn("there are no users")
	}
	users = t
	return nil
}

func answer(r authenticate.Request) authenticate.Reply {
	u, known := users.find(r.Username(), r.Realm())
	if !known {
		return authenticate.Next()
	}
	ok, err := u.allowed(&users, r.Pairs(abi.FieldParam))
	if err != nil {
		return authenticate.Fail(err.Error())
	}
	if !ok {
		parley.Debug("the user is not among those that the binding's parameters allow")
		return authenticate.Next()
	}
	reply := authenticate.Done()
	switch {
	case u.password != "":
		reply = reply.Password(u.password)
	case u.md5 != "" && r.Algorithm() == "MD5":
		reply = reply.HA1(u.md5)
	case u.sha256 != "" && r.Algorithm() == "SHA-256":
		reply = reply.HA1(u.sha256)
	default:
		parley.Debug("there is no hash of the user's password for " + r.Algorithm())
		return authenticate.Next()
	}
	if u.maxExpires > 0 {
		reply = reply.MaxExpires(u.maxExpires)
	}
	for _, a := range u.attributes {
		reply = reply.Attribute(a.Name, a.Text)
	}
	return reply
}

// A table is the users, and the columns that are attributes.
type table struct {
	users      map[name]*user
	attributes []string
}

// A name is not one string, for user "a" of realm "b:c" is not "a:b" of "c".
type name struct{ user, realm string } // realm "" = any

type user struct {
	line       int
	password   string
	md5        string // or these, hashes of it for one algorithm each
	sha256     string
	maxExpires time.Duration
	attributes []parley.Pair
}

// find prefers the user of this realm to one of any.
func (t *table) find(username, realm string) (*user, bool) {
	for _, key := range []name{{username, realm}, {username, ""}} {
		if u, ok := t.users[key]; ok {
			return u, true
		}
	}
	return nil, false
}

// allowed reports whether each parameter is one of the user's attributes; one
// that repeats is a list of which one must be.
func (u *user) allowed(t *table, params []parley.Pair) (bool, error) {
	for _, p := range params {
		if !slices.Contains(t.attributes, p.Name) {
			return false, fmt.Errorf("parameter %s: the users have no such column", p.Name)
		}
	}
	for _, p := range params {
		if !slices.ContainsFunc(params, func(other parley.Pair) bool {
			return other.Name == p.Name && slices.Contains(u.attributes, other)
		}) {
			return false, nil
		}
	}
	return true, nil
}

// add adds a line. A user may have two: a hash for each algorithm.
func (t *table) add(key name, u *user) error {
	old := t.users[key]
	switch {
	case old == nil:
		t.users[key] = u
		return nil
	case old.password != "" || u.password != "" || old.maxExpires != u.maxExpires || !slices.Equal(old.attributes, u.attributes):
	case old.md5 == "" && u.md5 != "":
		old.md5 = u.md5
		return nil
	case old.sha256 == "" && u.sha256 != "":
		old.sha256 = u.sha256
		return nil
	}
	return fmt.Errorf("user %q is in line %d already", key.user, old.line)
}

// setHA1 takes a hash, whose length says of which algorithm it is.
func (u *user) setHA1(text string) error {
	text = strings.ToLower(text)
	hex := strings.Trim(text, "0123456789abcdef") == ""
	switch {
	case hex && len(text) == 32:
		u.md5 = text
	case hex && len(text) == 64:
		u.sha256 = text
	default:
		return errors.New("the hash is not 32 (MD5) or 64 (SHA-256) hex digits")
	}
	return nil
}

// faults are what is wrong, by line. They show names, and nothing of a line that
// is not understood: there is no telling where in it the password is.
type faults []string

const maxFaults = 20

func (f *faults) add(line int, err error) (enough bool) {
	*f = append(*f, fmt.Sprintf("users: line %d: %v", line, err))
	return len(*f) >= maxFaults
}

func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return errors.New(strings.Join(f, "; "))
}
