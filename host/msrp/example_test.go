package msrp_test

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/parley-msrp/parley/host/msrp"
)

type printer struct{ closed chan error }

func (p printer) Receive(_ *msrp.Session, m *msrp.Incoming) (msrp.Sink, msrp.Status) {
	if m.Size > 1000 {
		return nil, msrp.Status{Code: 413}
	}
	return &msrp.Buffer{Max: 1000, Then: func(body []byte, err error) error {
		if err == nil {
			fmt.Printf("%s: %s\n", m.ContentType, body)
		}
		return err
	}}, msrp.Status{}
}

func (p printer) Closed(_ *msrp.Session, err error) { p.closed <- err }

func ExampleEndpoint() {
	alice, bob := msrp.NewEndpoint(msrp.EndpointConfig{}), msrp.NewEndpoint(msrp.EndpointConfig{})
	const a, b = "msrp://a.example:2855/Jw8sLp3VdN1cXe7u;tcp", "msrp://b.example:2855/t6Yh2Kq9Zr0bWm4x;tcp"
	ca := alice.NewConn(nil)
	p := printer{make(chan error, 2)}
	sa, _ := alice.NewSession(msrp.SessionConfig{Local: a, Peer: []string{b}, Conn: ca, Handler: p}) // active
	_, _ = bob.NewSession(msrp.SessionConfig{Local: b, Handler: p})                                  // passive

	near, far := net.Pipe()
	go alice.Serve(ca, near)
	go bob.Serve(bob.NewConn(nil), far)

	ctx := context.Background()
	o, err := sa.Send(ctx, &msrp.Message{ContentType: "text/plain", Body: strings.NewReader("Meet at the north gate."), Success: true})
	if err == nil {
		err = o.Wait(ctx)
	}
	fmt.Println(err)
	sa.Close()
	ca.Close(nil)
	<-p.closed
	<-p.closed
	// Output:
	// text/plain: Meet at the north gate.
	// <nil>
}
