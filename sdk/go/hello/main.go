// Command hello is a plugin for Parley that knows one user. Its configuration is
// that user's password; a binding's parameter "user" is the name, if not alice.
package main

import (
	"errors"
	"strings"

	parley "github.com/parley-msrp/parley/sdk/go"
	"github.com/parley-msrp/parley/sdk/go/authenticate"
)

var password string // globals live from call to call

func init() {
	parley.OnLoad(load)
	authenticate.Handle(answer)
}

// load runs once in each new instance. An error refuses the load.
func load(config string) error {
	password = config
	if password == "" {
		password = "wonderland"
		parley.Warn("no configuration: the password is wonderland")
	}
	if strings.Contains(password, "\n") {
		return errors.New("the configuration is more than one line: it must be a password")
	}
	return nil
}

// answer is asked when somebody says who they are: what is their password?
func answer(r authenticate.Request) authenticate.Reply {
	user := r.Param("user")
	if user == "" {
		user = "alice"
	}
	if r.Username() != user {
		return authenticate.Next() // somebody else may know
	}
	return authenticate.Done().Password(password)
}

func main() {} // is never run
