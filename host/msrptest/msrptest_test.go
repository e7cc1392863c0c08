package msrptest_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
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

// TestPipeDeadlinePast: as on a socket, a deadline that is past fails what need not wait.
func TestPipeDeadlinePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := msrptest.Pipe()
		_, _ = a.Write([]byte("x"))
		_ = b.SetDeadline(time.Now())
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		_ = b.SetDeadline(time.Time{})
		if n, err := b.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Error(n, err)
		}
		b.Close()
		if _, err := b.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestPipeLimit: a write beyond the limit waits for the reader, and tells how
// far it came when it must not wait any longer.
func TestPipeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := msrptest.Pipe()
		msrptest.Limit(b, 10)
		_ = a.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := a.Write(make([]byte, 15)); n != 10 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(n, err)
		}
		_ = a.SetWriteDeadline(time.Time{})
		go func() {
			time.Sleep(time.Minute)
			_, _ = io.ReadFull(b, make([]byte, 15))
		}()
		start := time.Now()
		if n, err := a.Write(make([]byte, 15)); n != 15 || err != nil || time.Since(start) != time.Minute {
			t.Error(n, err, time.Since(start))
		}
	})
}

func TestListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := msrptest.NewListener()
		from := &net.TCPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 7}
		nc := ln.DialFrom(from)
		in, err := ln.Accept()
		if err != nil || in.RemoteAddr() != net.Addr(from) || in.LocalAddr().String() != nc.RemoteAddr().String() {
			t.Errorf("%v %v %v", in.RemoteAddr(), in.LocalAddr(), err)
		}
		waiting := ln.Dial()
		ln.Close()
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		for _, nc := range []net.Conn{waiting, ln.Dial()} {
			if _, err := nc.Read(make([]byte, 1)); err != io.EOF {
				t.Error(err)
			}
		}
	})
}

// TestPeerHalfFrame: half a frame is no frame, and not lost when the other half comes.
func TestPeerHalfFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := msrptest.Pipe()
		a, b := msrptest.NewPeer(t, x), msrptest.NewPeer(t, y)
		frame := "MSRP abcd SEND\r\nTo-Path: msrp://b:1/x;tcp\r\nFrom-Path: msrp://a:1/z;tcp\r\nMessage-ID: m123\r\nContent-Type: a/b\r\n\r\nhi\r\n-------abcd$\r\n"
		for cut := range len(frame) {
			a.Write([]byte("\r\n" + frame + frame[:cut]))
			if f := b.Next(); string(f.Body) != "hi" {
				t.Fatalf("cut at %d: %+v", cut, f)
			}
			b.WantNothing(time.Second)
			b.WantNothing(time.Second)
			if strings.Contains(frame[:cut], "\r\n\r\n") {
				if f := b.Peek(); f.TID != "abcd" || f.Method != "SEND" || f.From != "msrp://a:1/z;tcp" {
					t.Fatalf("cut at %d: a look at %+v", cut, f)
				}
			}
			a.Write([]byte(frame[cut:]))
			if f := b.Next(); string(f.Body) != "hi" || f.Flag != '$' {
				t.Fatalf("cut at %d: %+v", cut, f)
			}
		}
	})
}

func TestSendFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := msrptest.Pipe()
		a, b := msrptest.NewPeer(t, x), msrptest.NewPeer(t, y)
		tid := a.SendFrame(msrptest.FrameSpec{
			To: "msrp://b:1/x;tcp", From: "msrp://a:1/z;tcp", ID: "m123", Range: "1-2/2", Headers: []string{"X: y"}, Body: "hi", Flag: '+',
		})
		if f := b.WantRequest("SEND"); f.TID != tid || f.Get("Byte-Range") != "1-2/2" || f.Get("x") != "y" ||
			f.Get("Content-Type") != "text/plain" || string(f.Body) != "hi" || f.Flag != '+' {
			t.Errorf("%+v", f)
		}
		a.SendFrame(msrptest.FrameSpec{TID: "abcd", Method: "200 OK", To: "msrp://b:1/x;tcp", From: "msrp://a:1/z;tcp"})
		b.WantResponse("abcd", 200)
		a.SendFrame(msrptest.FrameSpec{To: "msrp://b:1/x;tcp", From: "msrp://a:1/z;tcp", ID: "m124", HasBody: true})
		if f := b.Next(); !f.HasBody || len(f.Body) != 0 {
			t.Errorf("%+v", f)
		}
		// An illegal one: no paths, and an end-line of another.
		a.SendFrame(msrptest.FrameSpec{TID: "abcd", End: "efgh"})
		buf := make([]byte, 100)
		if n, _ := y.Read(buf); string(buf[:n]) != "MSRP abcd SEND\r\n-------efgh$\r\n" {
			t.Errorf("%q", buf[:n])
		}
	})
}
