// Command plugin-go is a small plugin: guests are refused, except at the
// listener that the binding's parameter names.
package main

import "github.com/parley-msrp/parley/sdk/go/authenticate"

func init() {
	authenticate.Handle(func(r authenticate.Request) authenticate.Reply {
		if r.Username() == "guest" && r.Listener() != r.Param("listener") {
			return authenticate.Deny(403, "guests are not allowed here")
		}
		return authenticate.Next() // whether the password is right is for the next provider
	})
}

func main() {} // is never run
