package transport

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestInherited: a socket that others opened gives connections like one of our own,
// and closing the listener leaves it open for the next.
func TestInherited(t *testing.T) {
	socket := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer socket.Close()
	ca := newAuthority(t)
	for name, cfg := range map[string]ListenConfig{
		"own":             {Bind: "127.0.0.1:0"},
		"inherited":       {Socket: socket},
		"inherited again": {Socket: socket},
		"inherited, TLS":  {Socket: socket, TLS: ca.server(t, "127.0.0.1")},
	} {
		ln := must[net.Listener](t)(Listen(t.Context(), cfg))
		near := must[net.Conn](t)(net.Dial("tcp", ln.Addr().String()))
		nc := must[net.Conn](t)(ln.Accept())
		raw := nc
		if tc, ok := nc.(Secure); ok {
			raw = tc.NetConn()
		}
		if c, ok := raw.(*tcpConn); ok {
			raw = c.TCPConn
		} else if cfg.TLS == nil {
			t.Errorf("%s: a %T, which cannot be waited for without a buffer", name, nc)
		}
		control, err := raw.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		for option, want := range map[int]int{unix.TCP_KEEPIDLE: 60, unix.TCP_KEEPINTVL: 15, unix.TCP_KEEPCNT: 4} {
			if err := control.Control(func(fd uintptr) {
				if got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option); err != nil || got != want {
					t.Errorf("%s: option %d is %d, want %d; %v", name, option, got, want, err)
				}
			}); err != nil {
				t.Error(err)
			}
		}
		near.Close()
		nc.Close()
		ln.Close()
	}
	other := must[net.Listener](t)(net.Listen("unix", filepath.Join(t.TempDir(), "s")))
	defer other.Close()
	if _, err := Listen(t.Context(), ListenConfig{Socket: other}); err == nil || !strings.Contains(err.Error(), "not of TCP, but of unix") {
		t.Error(err)
	}
}
