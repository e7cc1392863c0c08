package auth_test

import (
	"fmt"

	"github.com/parley-msrp/parley/host/auth"
)

// One AUTH, as both sides see it.
func Example() {
	const conn, uri = 1, "msrps://relay.example:2855;tcp"
	server, err := auth.NewServer(auth.ServerConfig{Realm: "example"})
	if err != nil {
		panic(err)
	}
	client := auth.Client{Username: "dora", Password: "correct horse"}

	// The client has no nonce yet. It sends AUTH without, and gets a 401.
	_, ok := client.Preemptive("AUTH", uri)
	fmt.Println("preemptive:", ok)
	authorization, err := client.Answer(server.Challenges(conn, false), "AUTH", uri)
	if err != nil {
		panic(err)
	}

	// The relay looks at the second AUTH.
	c, err := auth.ParseCredentials(authorization)
	if err != nil {
		panic(err) // 400
	}
	k, err := server.Check(conn, c)
	if err != nil {
		panic(err) // 401, not stale
	}
	r := server.Verify(k, "AUTH", uri, auth.Secret{Password: "correct horse"})
	fmt.Println("ok:", r.OK, "stale:", r.Stale)

	// The client reads the 200.
	fmt.Println("server proved itself:", client.Success(server.Info(conn, k, uri)) == nil)
	_, ok = client.Preemptive("AUTH", uri)
	fmt.Println("preemptive:", ok)
	// Output:
	// preemptive: false
	// ok: true stale: false
	// server proved itself: true
	// preemptive: true
}
