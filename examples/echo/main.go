// Command echo is the smallest MSRP user agent: it authenticates to a relay,
// prints its path, and sends every message back.
//
//	PARLEY_PASSWORD=… go run ./examples/echo msrps://relay.example.com:2855;tcp alice
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/parley-msrp/parley/host/auth"
	"github.com/parley-msrp/parley/host/msrp"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: echo RELAY USER")
		os.Exit(2)
	}
	u, err := msrp.ParseURI(os.Args[1])
	if err == nil {
		var nc net.Conn
		if nc, err = tls.Dial("tcp", fmt.Sprintf("%s:%d", u.Host, u.Port), nil); err == nil {
			err = echo(context.Background(), nc, os.Args[1], os.Args[2], os.Getenv("PARLEY_PASSWORD"), os.Stdout)
		}
	}
	fmt.Fprintln(os.Stderr, "echo:", err)
	os.Exit(1)
}

// echo serves one session on nc, which is connected to the relay, until that
// ends.
func echo(ctx context.Context, nc net.Conn, relay, user, password string, out io.Writer) error {
	e := msrp.NewEndpoint(msrp.EndpointConfig{Linger: -1})
	c := e.NewConn(nil)
	ended := make(chan error, 1)
	go func() { ended <- e.Serve(c, nc) }()
	own := "msrps://" + user + ".invalid:2855/" + msrp.NewID(22) + ";tcp"
	use, err := authenticate(ctx, c, relay, own, user, password)
	if err == nil {
		_, err = e.NewSession(msrp.SessionConfig{Local: own, AcceptTypes: []string{"text/plain"}, Handler: echoer{ctx}})
	}
	if err != nil {
		c.Close(err)
		<-ended
		return err
	}
	fmt.Fprintln(out, "path:", use, own)
	return <-ended
}

// authenticate returns the relay's Use-Path.
func authenticate(ctx context.Context, c *msrp.Conn, relay, own, user, password string) (string, error) {
	digest := auth.Client{Username: user, Password: password}
	rq := &msrp.Request{Method: []byte("AUTH"), Paths: msrp.AppendPaths(nil, []byte(relay), []byte(own), nil)}
	for {
		r, err := c.RoundTrip(ctx, rq)
		switch {
		case err != nil:
			return "", err
		case r.OK():
			use, _ := r.Header("Use-Path")
			return use, nil
		case r.Code != 401:
			return "", fmt.Errorf("AUTH: %d %s", r.Code, r.Comment)
		}
		answer, err := digest.Answer(r.Headers("WWW-Authenticate"), "AUTH", relay)
		if err != nil {
			return "", err
		}
		rq.After = []byte("Authorization: " + answer + "\r\n")
	}
}

// An echoer sends messages back.
type echoer struct{ ctx context.Context }

// Receive implements msrp.SessionHandler. It answers from a goroutine of its
// own: a handler must not wait for what only its return lets come.
func (h echoer) Receive(s *msrp.Session, m *msrp.Incoming) (msrp.Sink, msrp.Status) {
	return &msrp.Buffer{Then: func(body []byte, err error) error {
		if err == nil {
			go func() {
				// What cannot be sent back is lost; the peer has its own copy.
				_, _ = s.Send(h.ctx, &msrp.Message{ContentType: m.ContentType, Body: strings.NewReader(string(body))})
			}()
		}
		return err
	}}, msrp.Status{}
}

// Closed implements msrp.SessionHandler.
func (echoer) Closed(*msrp.Session, error) {}
