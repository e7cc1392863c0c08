package hook_test

import (
	"context"
	"fmt"

	"github.com/parley-msrp/parley/host/hook"
)

// A chain of a provider made here, and of a built-in one for whom it does not know.
func Example() {
	guests := func(_ context.Context, q *hook.AuthRequest) (a hook.AuthReply, err error) {
		if q.Username == "guest" {
			a.Verdict, a.Status, a.Reason = hook.Deny, 403, q.Params["reason"].(string)
		}
		return a, nil
	}
	users, err := hook.NewStatic(map[string]hook.User{"alice": {Password: "secret"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	chain := hook.NewChain(
		func(f hook.Failure) { fmt.Println(f.Point, f.Binding, f.Kind, f.Err) },
		hook.Binding[hook.AuthRequest, hook.AuthReply]{
			Name: "guests", Provider: hook.Func[hook.AuthRequest, hook.AuthReply](guests),
			Params: map[string]any{"reason": "No guests"},
		},
		hook.Binding[hook.AuthRequest, hook.AuthReply]{Name: "users", Provider: users},
	)
	for _, name := range []string{"alice", "guest", "bob"} {
		a := chain.Run(context.Background(), &hook.AuthRequest{Username: name, Algorithm: "MD5"})
		fmt.Printf("%s: %v by %q, %q\n", name, a.Verdict, a.By, a.Reason)
	}
	// Output:
	// alice: done by "users", ""
	// guest: deny by "guests", "No guests"
	// bob: next by "", ""
}
