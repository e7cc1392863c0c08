package hook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
)

// A User of Static has a password, or the HA1 of it.
type User struct {
	Password string
	// HA1 is the hash of user:realm:password, in lower-case hex: 32 digits are
	// MD5, 64 are SHA-256. Requests for the other algorithm do not know the user.
	HA1 string
}

// LogValue shows nothing: all of a User is secret.
func (User) LogValue() slog.Value { return slog.StringValue("[secret]") }

// Static answers authenticate from a table that does not change.
type Static struct{ users map[string]User }

// NewStatic returns a provider of users, by name. The error joins all faults.
func NewStatic(users map[string]User) (*Static, error) {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(users)) {
		u := users[name]
		switch {
		case name == "":
			errs = append(errs, errors.New("a user has no name; give it one or take it away"))
		case u.Password == "" && u.HA1 == "":
			errs = append(errs, fmt.Errorf("user %q has neither password nor ha1; set one", name))
		case u.Password != "" && u.HA1 != "":
			errs = append(errs, fmt.Errorf("user %q has both password and ha1; take one away", name))
		case u.HA1 != "" && !isHex(u.HA1, md5Len) && !isHex(u.HA1, sha256Len):
			errs = append(errs, fmt.Errorf("ha1 of user %q is not lower-case hex of %d (MD5) or %d (SHA-256) digits", name, md5Len, sha256Len))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &Static{maps.Clone(users)}, nil
}

// Call implements Provider.
func (s *Static) Call(_ context.Context, q *AuthRequest) (a AuthReply, err error) {
	u, ok := s.users[q.Username]
	switch {
	case !ok:
	case u.Password != "":
		a.Verdict, a.Password = Done, u.Password
	case len(u.HA1) == ha1Len(q.Algorithm):
		a.Verdict, a.HA1 = Done, u.HA1
	}
	return a, nil
}
