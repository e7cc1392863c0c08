// Package dnstest is a DNS server for tests, over UDP and TCP on loopback.
//
//	s := dnstest.New(t, `
//		_msrps._tcp.north.example. SRV 10 0 2855 r1.north.example.
//		r1.north.example.          A   127.0.0.1`)
//	d := transport.Dialer{Resolver: transport.NewResolver(s.Addr)}
//
// It follows CNAMEs within its zone, as a recursive server does.
package dnstest

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

// A Server answers from one zone.
type Server struct {
	Addr string       // host:port
	UDP  atomic.Int32 // questions that came
	TCP  atomic.Int32

	mu   sync.Mutex
	zone map[string][]dns.RR // by lower-case name
	fail map[string]bool
}

// New starts a server that runs until the test ends. Zone has one record a line.
func New(t testing.TB, zone string) *Server {
	t.Helper()
	s := &Server{zone: map[string][]dns.RR{}, fail: map[string]bool{}}
	s.Add(t, zone)
	tcp, udp := listen(t)
	s.Addr = tcp.Addr().String()
	for _, srv := range []*dns.Server{{Listener: tcp, Handler: s}, {PacketConn: udp, Handler: s}} {
		started, done := make(chan struct{}), make(chan error, 1)
		srv.NotifyStartedFunc = func() { close(started) }
		go func() { done <- srv.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := srv.Shutdown(); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	return s
}

// listen finds a port that is free for both.
func listen(t testing.TB) (net.Listener, net.PacketConn) {
	t.Helper()
	var last error
	for range 10 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return tcp, udp
		}
		last = err
		tcp.Close()
	}
	t.Fatal(last)
	return nil, nil
}

// Add adds records, one a line.
func (s *Server) Add(t testing.TB, zone string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range strings.Lines(zone) {
		rr, err := dns.NewRR(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		if rr != nil {
			name := strings.ToLower(rr.Header().Name)
			s.zone[name] = append(s.zone[name], rr)
		}
	}
}

// Fail makes the server answer SERVFAIL to questions about name.
func (s *Server) Fail(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[name] = true
}

// ServeDNS implements dns.Handler.
func (s *Server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	size := dns.MaxMsgSize
	if _, ok := w.RemoteAddr().(*net.UDPAddr); ok {
		s.UDP.Add(1)
		size = dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
		}
	} else {
		s.TCP.Add(1)
	}
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	s.mu.Lock()
	name := strings.ToLower(q.Question[0].Name)
	if s.fail[name] {
		m.Rcode = dns.RcodeServerFailure
	} else if _, ok := s.zone[name]; !ok {
		m.Rcode = dns.RcodeNameError
	}
	for range 8 { // CNAMEs
		next := ""
		for _, rr := range s.zone[name] {
			if c, ok := rr.(*dns.CNAME); ok {
				next = strings.ToLower(c.Target)
			} else if rr.Header().Rrtype != q.Question[0].Qtype {
				continue
			}
			m.Answer = append(m.Answer, rr)
		}
		if name = next; name == "" {
			break
		}
	}
	s.mu.Unlock()
	m.Truncate(size)
	_ = w.WriteMsg(m) // an error is the client's end, or the test's
}
