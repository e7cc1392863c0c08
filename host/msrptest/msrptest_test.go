package msrptest_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-msrp/parley/host/msrptest"
)

func TestPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := msrptest.Pipe()
		if _, err := a.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 3)
		if n, err := b.Read(buf); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		start := time.Now()
		_ = a.SetReadDeadline(start.Add(time.Minute))
		if _, err := a.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		// A deadline set while a read waits counts.
		go func() {
			time.Sleep(time.Second)
			_ = b.SetReadDeadline(time.Now())
		}()
		_, _ = b.Read(buf)
		if _, err := b.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		_ = b.SetReadDeadline(time.Time{})
		_, _ = a.Write([]byte("bye"))
		if err := a.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
		if all, err := io.ReadAll(b); string(all) != "bye" || err != nil {
			t.Errorf("%q %v", all, err)
		}
		if _, err := b.Write([]byte("still")); err != nil {
			t.Error(err)
		}
		b.Close()
		if _, err := b.Read(buf); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if _, err := a.Write(buf); err == nil {
			t.Error("a write after CloseWrite")
		}
	})
}

func TestPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := msrptest.NewListener()
		defer ln.Close()
		a := msrptest.NewPeer(t, ln.Dial())
		nc, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		b := msrptest.NewPeer(t, nc)
		b.Limit(100)
		go a.Send("MSRP abcd SEND\nTo-Path: msrp://b:1/x;tcp\nFrom-Path: msrp://r:1/y;tcp msrp://a:1/z;tcp\nMessage-ID: m123\nContent-Type: a/b\n\nhi\n-------abcd+")
		f := b.WantRequest("SEND")
		if string(f.Body) != "hi" || f.Flag != '+' || f.Get("message-id") != "m123" || len(f.Headers) != 4 {
			t.Errorf("%+v", f)
		}
		b.Respond(f, 415, "X: y")
		r := a.WantResponse("abcd", 415)
		if r.To != "msrp://r:1/y;tcp" || r.From != "msrp://b:1/x;tcp" || r.Get("x") != "y" {
			t.Errorf("%+v", r)
		}
		a.WantNothing(time.Hour)
		b.Close()
		a.WantClosed()
	})
}
