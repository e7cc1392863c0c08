package bench

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"
)

// A Forwarder copies octets between each connection it gets and one that it makes.
// It understands none of them: what a relay does beyond that is what a relay costs.
type Forwarder struct {
	// To is host:port where to connect.
	To string
	// Accept and Connect make TLS of either side. Default: plain TCP.
	Accept, Connect *tls.Config
	// Buffer is how many bytes are read at once, for each direction. Zero = 32 KiB.
	Buffer int
	// Splice leaves copying to the system, where it can: from TCP to TCP on Linux.
	Splice bool
}

// Serve forwards until ctx is done, and returns once all connections are closed.
func (f *Forwarder) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for {
		nc, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				nc.Close()
			}
			return nil
		}
		if err != nil {
			return err
		}
		wg.Go(func() { f.forward(ctx, nc) })
	}
}

// forward joins in with a new connection. Who cannot be reached, or ends, ends both.
func (f *Forwarder) forward(ctx context.Context, in net.Conn) {
	defer in.Close()
	d := net.Dialer{Timeout: 10 * time.Second}
	out, err := d.DialContext(ctx, "tcp", f.To)
	if err != nil {
		return
	}
	defer out.Close()
	defer context.AfterFunc(ctx, func() {
		in.Close()
		out.Close()
	})()
	if f.Accept != nil {
		in = tls.Server(in, f.Accept)
	}
	if f.Connect != nil {
		out = tls.Client(out, f.Connect)
	}
	var wg sync.WaitGroup
	wg.Go(func() { f.copy(in, out) })
	f.copy(out, in)
	wg.Wait()
}

// copy copies until src ends, and says so to dst.
func (f *Forwarder) copy(dst, src net.Conn) {
	var err error
	if f.Splice {
		_, err = io.Copy(dst, src)
	} else {
		size := f.Buffer
		if size == 0 {
			size = 32 << 10
		}
		// Without their methods, which would splice.
		_, err = io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, size))
	}
	half, ok := dst.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		dst.Close()
		src.Close()
	}
}
