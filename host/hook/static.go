package hook

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// A User of Static has a password, or the MD5 HA1 of it.
type User struct {
	Password string
	HA1      string // hex MD5 of user:realm:password
}

// Static answers authenticate from a table that does not change.
type Static struct{ users map[string]User }

// NewStatic returns a provider of users. It reports all faults.
func NewStatic(users map[string]User) (*Static, error) {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(users)) {
		u := users[name]
		switch {
		case name == "":
			errs = append(errs, errors.New("a user has no name"))
		case (u.Password == "") == (u.HA1 == ""):
			errs = append(errs, fmt.Errorf("user %q needs either a password or an ha1", name))
		case u.HA1 != "" && !isHex(u.HA1, 32):
			errs = append(errs, fmt.Errorf("ha1 of user %q is not 32 lower-case hex digits", name))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &Static{maps.Clone(users)}, nil
}

// Call implements Provider. A user with an HA1 is unknown to SHA-256.
func (s *Static) Call(_ context.Context, q *AuthRequest) (a AuthReply, err error) {
	u, ok := s.users[q.Username]
	switch {
	case ok && u.Password != "":
		a.Verdict, a.Password = Done, u.Password
	case ok && q.Algorithm == "MD5":
		a.Verdict, a.HA1 = Done, u.HA1
	}
	return a, nil
}
