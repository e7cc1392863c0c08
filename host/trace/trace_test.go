package trace

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"go.uber.org/goleak"

	"github.com/parley-msrp/parley/host/msrp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const relayURI = "msrps://relay.example:2855/aliceSecretSession;tcp"

// users knows alice's session.
func users(id string) (string, bool) {
	if id == "aliceSecretSession" {
		return "alice", true
	}
	return "", false
}

func event(listener string, body string) *Event {
	return &Event{
		Traced: msrp.Traced{
			Head: []byte("MSRP abcd SEND\r\nTo-Path: " + relayURI + " msrp://b.example:1/bobSecretSession;tcp\r\n" +
				"From-Path: msrp://alice@a.example:1/aliceOwnSession;tcp\r\nMessage-ID: m123\r\nByte-Range: 1-5/5\r\nContent-Type: text/plain\r\n"),
			TID: []byte("abcd"), Body: []byte(body), HasBody: true, Whole: true, Flag: msrp.Complete,
		},
		Listener: listener, Conn: 7,
		Ends: Ends{netip.MustParseAddrPort("192.0.2.1:2855"), netip.MustParseAddrPort("198.51.100.7:40000"), "tls"},
	}
}

// TestFilter: what is asked for is shown, and nothing else.
func TestFilter(t *testing.T) {
	for name, tt := range map[string]struct {
		filter Filter
		shown  bool
	}{
		"all":               {Filter{}, true},
		"user":              {Filter{User: "alice"}, true},
		"another user":      {Filter{User: "bob"}, false},
		"listener":          {Filter{Listener: "edge"}, true},
		"another listener":  {Filter{Listener: "core"}, false},
		"session URI":       {Filter{Session: relayURI}, true},
		"session-id":        {Filter{Session: "aliceSecretSession"}, true},
		"as in the log":     {Filter{Session: "alic~"}, true},
		"another session":   {Filter{Session: "bobx"}, false},
		"address":           {Filter{Peer: netip.MustParsePrefix("198.51.100.7/32")}, true},
		"another address":   {Filter{Peer: netip.MustParsePrefix("203.0.113.0/24")}, false},
		"all of it":         {Filter{User: "alice", Listener: "edge", Session: "alic"}, true},
		"but for one thing": {Filter{User: "alice", Listener: "core", Session: "alic"}, false},
	} {
		var h Hub
		s := h.Subscribe(tt.filter, users)
		h.Publish(event("edge", "hello"))
		s.Close()
		f, err := s.Next(t.Context())
		if (err == nil) != tt.shown || err != nil && err != io.EOF {
			t.Errorf("%s: %v %v", name, f, err)
		}
		if h.Active() || h.Readers() != 0 {
			t.Errorf("%s: still active", name)
		}
	}
}

// TestHarmless: no sink shows credentials, whole session URIs or, unless asked, bodies.
func TestHarmless(t *testing.T) {
	secrets := []string{"aliceSecretSession", "bobSecretSession", "aliceOwnSession", "0123digest", "n0nce", "use-path-secret"}
	var h Hub
	plain, full := h.Subscribe(Filter{}, users), h.Subscribe(Filter{Bodies: true}, users)
	e := event("edge", "something private\x1b[2J")
	h.Publish(e)
	auth := &Event{Traced: msrp.Traced{Out: true, TID: []byte("efgh"), Flag: msrp.Complete, Whole: true, Head: []byte(
		"MSRP efgh 200 OK\r\nTo-Path: " + relayURI + "\r\nFrom-Path: not a uri use-path-secret\r\nUse-Path: msrps://r.example:2855/use-path-secret;tcp\r\n" +
			"AUTHORIZATION: Digest nonce=\"n0nce\", response=\"0123digest\"\r\nWWW-Authenticate: Digest nonce=\"n0nce\"\r\nAuthentication-Info: rspauth=\"0123digest\"\r\n")}}
	h.Publish(auth)
	for _, s := range []*Sub{plain, full} {
		s.Close()
		var text, lines, log, capture bytes.Buffer
		c, err := NewCapture(&capture)
		if err != nil {
			t.Fatal(err)
		}
		hep := HEP{ID: 1, Protocol: 100}
		var packets []byte
		logger := slog.New(slog.NewJSONHandler(&log, nil))
		n := 0
		if err := s.Each(t.Context(), func(f *Frame) error {
			n++
			packets = append(packets, hep.append(nil, f)...)
			logger.Info("x", "head", f.Head)
			return errors.Join(Text(&text)(f), JSON(&lines)(f), c.Write(f))
		}); err != nil || n != 2 {
			t.Fatal(n, err)
		}
		for sink, shown := range map[string]string{"text": text.String(), "json": lines.String(), "log": log.String(), "pcapng": capture.String(), "hep": string(packets)} {
			for _, secret := range secrets {
				if strings.Contains(shown, secret) {
					t.Errorf("%s shows %s:\n%s", sink, secret, shown)
				}
			}
			if !strings.Contains(shown, "Message-ID: m123") || !strings.Contains(shown, "/alic~;tcp") {
				t.Errorf("%s:\n%s", sink, shown)
			}
			if s == plain && strings.Contains(shown, "private") {
				t.Errorf("%s shows a body:\n%s", sink, shown)
			}
		}
		if s == full && (!strings.Contains(text.String(), "something private.[2J") || !strings.Contains(string(packets), "something private\x1b")) {
			t.Errorf("%q", text.String())
		}
		var o map[string]any
		if err := json.Unmarshal(bytes.SplitN(lines.Bytes(), []byte("\n"), 2)[0], &o); err != nil || o["users"].([]any)[0] != "alice" || o["way"] != "received" {
			t.Errorf("%v %v", o, err)
		}
	}
}

// TestSlowReader: a reader that does not read costs itself frames, and is told.
func TestSlowReader(t *testing.T) {
	var h Hub
	slow, quick := h.Subscribe(Filter{}, users), h.Subscribe(Filter{}, users)
	defer slow.Close()
	defer quick.Close()
	for range queueLen + 10 {
		h.Publish(event("edge", "x"))
		if f, err := quick.Next(t.Context()); err != nil || f.Lost != 0 {
			t.Fatal(f, err)
		}
	}
	if f, err := slow.Next(t.Context()); err != nil || f.Lost != 10 || h.Lost() != 10 {
		t.Errorf("%+v %v, %d lost in all", f, err, h.Lost())
	}
	var b strings.Builder
	if err := Text(&b)(&Frame{Lost: 3}); err != nil || !strings.Contains(b.String(), "(3 frames lost") {
		t.Errorf("%s", b.String())
	}
}

// TestNext: it waits for a frame, and ends with its context or its Sub.
func TestNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hub
		s := h.Subscribe(Filter{}, users)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Each(ctx, func(*Frame) error { return nil }) }()
		h.Publish(event("edge", ""))
		synctest.Wait()
		if s.Waiting() {
			t.Error("not read")
		}
		cancel()
		if err := <-done; err != context.Canceled {
			t.Error(err)
		}
		go func() { done <- s.Each(t.Context(), func(*Frame) error { return nil }) }()
		synctest.Wait()
		s.Close()
		s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestPublishAllocates: without readers a trace costs nothing.
func TestPublishAllocates(t *testing.T) {
	var h Hub
	e := event("edge", "hello")
	if n := testing.AllocsPerRun(100, func() {
		if h.Active() {
			h.Publish(e)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestCall: frames by the same session are of one call, whichever way they go.
func TestCall(t *testing.T) {
	var h Hub
	s := h.Subscribe(Filter{}, users)
	back := event("edge", "x")
	back.Head = []byte("MSRP efgh SEND\r\nTo-Path: msrp://a.example:1/aliceOwnSession;tcp\r\nFrom-Path: " + relayURI + " msrp://b.example:1/b;tcp\r\n")
	other := event("edge", "x")
	other.Head = []byte("MSRP efgh SEND\r\nTo-Path: msrp://a.example:1/x;tcp\r\nFrom-Path: msrp://b.example:1/b;tcp\r\n")
	for _, e := range []*Event{event("edge", "x"), back, other} {
		h.Publish(e)
	}
	s.Close()
	var calls []string
	if err := s.Each(t.Context(), func(f *Frame) error { calls = append(calls, f.Call); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(calls) != 3 || calls[0] == "" || calls[0] != calls[1] || calls[2] != "" {
		t.Errorf("%q", calls)
	}
}

// packets reads a capture back.
func packets(t *testing.T, r io.Reader) (payloads []string, flows []string) {
	t.Helper()
	ng, err := pcapgo.NewNgReader(r, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, _, err := ng.ReadPacketData()
		if err == io.EOF {
			return payloads, flows
		} else if err != nil {
			t.Fatal(err)
		}
		first := gopacket.Decoder(layers.LayerTypeIPv4)
		if data[0]>>4 == 6 {
			first = layers.LayerTypeIPv6
		}
		p := gopacket.NewPacket(data, first, gopacket.Default)
		tcp, ok := p.TransportLayer().(*layers.TCP)
		if !ok || p.ErrorLayer() != nil {
			t.Fatalf("%v", p)
		}
		payloads = append(payloads, string(tcp.Payload))
		flows = append(flows, fmt.Sprintf("%s:%d>%s:%d seq %d ack %d", p.NetworkLayer().NetworkFlow().Src(), tcp.SrcPort, p.NetworkLayer().NetworkFlow().Dst(), tcp.DstPort, tcp.Seq, tcp.Ack))
	}
}

// TestFile: frames are TCP segments of their connection; a file is appended to, for
// nobody else to read, and gives way to a new one at its size.
func TestFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "trace.pcapng")
	write := func(size int64, events ...*Event) {
		t.Helper()
		var h Hub
		s := h.Subscribe(Filter{Bodies: true}, users)
		for _, e := range events {
			h.Publish(e)
		}
		s.Close()
		if err := File(t.Context(), s, name, size); err != nil {
			t.Fatal(err)
		}
	}
	answer := &Event{Conn: 7, Ends: event("", "").Ends, Traced: msrp.Traced{Out: true, Head: []byte("MSRP abcd 200 OK\r\nTo-Path: " + relayURI + "\r\nFrom-Path: " + relayURI + "\r\n"), TID: []byte("abcd"), Flag: msrp.Complete}}
	six := event("edge", "over IPv6")
	six.Ends = Ends{netip.MustParseAddrPort("[2001:db8::1]:2855"), netip.MustParseAddrPort("[2001:db8::7]:40000"), "tcp"}
	six.Conn = 8
	dialling := event("dialled", strings.Repeat("x", 20_000))
	dialling.Ends, dialling.Conn = Ends{}, 9
	write(1<<20, event("edge", "hello"), answer, six)
	write(1<<20, dialling)
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	payloads, flows := packets(t, f)
	n := len(payloads[0])
	want := []string{
		"198.51.100.7:40000>192.0.2.1:2855 seq 1 ack 1", fmt.Sprintf("192.0.2.1:2855>198.51.100.7:40000 seq 1 ack %d", n+1),
		"2001:db8::7:40000>2001:db8::1:2855 seq 1 ack 1", "0.0.0.0:32777>0.0.0.0:2855 seq 1 ack 1",
	}
	if !slices.Equal(flows, want) {
		t.Errorf("%q\nwant %q", flows, want)
	}
	if !strings.HasPrefix(payloads[0], "MSRP abcd SEND\r\n") || !strings.HasSuffix(payloads[0], "\r\n\r\nhello\r\n-------abcd$\r\n") {
		t.Errorf("%q", payloads[0])
	}
	if l := len(payloads[3]); l < maxBody || l > maxBody+1000 {
		t.Errorf("%d octets of a long body", l)
	}
	write(1, event("edge", "next"), event("edge", "and the one after"))
	old, err := os.ReadFile(name + ".1")
	now, err2 := os.ReadFile(name)
	if err != nil || err2 != nil || !bytes.Contains(old, []byte("next")) || bytes.Contains(now, []byte("next")) || !bytes.Contains(now, []byte("and the one after")) {
		t.Errorf("%d and %d octets, %v %v", len(old), len(now), err, err2)
	}
	var h Hub
	s := h.Subscribe(Filter{}, users)
	defer s.Close()
	if err := File(t.Context(), s, filepath.Join(name, "none"), 1); err == nil {
		t.Error("no error")
	}
}

// TestHEP: a collector gets what the HEPv3 format says.
func TestHEP(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	var h Hub
	s := h.Subscribe(Filter{}, users)
	h.Publish(event("edge", "hello"))
	s.Close()
	if err := (HEP{Address: pc.LocalAddr().String(), ID: 2855, Protocol: 100, Key: "k3y"}).Send(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	n, _, err := pc.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	b = b[:n]
	if string(b[:4]) != "HEP3" || int(binary.BigEndian.Uint16(b[4:])) != n {
		t.Fatalf("%q", b)
	}
	got := map[uint16]string{}
	for rest := b[6:]; len(rest) > 0; {
		size := binary.BigEndian.Uint16(rest[4:])
		got[binary.BigEndian.Uint16(rest[2:])] = string(rest[6:size])
		rest = rest[size:]
	}
	for kind, want := range map[uint16]string{
		hepFamily: "\x02", hepIPProto: "\x06", hepSrc4: "\xc6\x33\x64\x07", hepDst4: "\xc0\x00\x02\x01", hepSrcPort: "\x9c\x40", hepDstPort: "\x0b\x27",
		hepProtocol: "d", hepAgent: "\x00\x00\x0b\x27", hepKey: "k3y",
	} {
		if got[kind] != want {
			t.Errorf("chunk %#x: %q", kind, got[kind])
		}
	}
	if p := got[hepPayload]; !strings.HasPrefix(p, "MSRP abcd SEND\r\n") || strings.Contains(p, "hello") || len(got[hepCall]) != 16 {
		t.Errorf("%q %q", p, got[hepCall])
	}
}

// TestLog: the log has the head, the users, and what was lost.
func TestLog(t *testing.T) {
	var h Hub
	s := h.Subscribe(Filter{}, users)
	h.Publish(event("edge", "hello"))
	s.lost.Store(3)
	s.Close()
	var b bytes.Buffer
	if err := Log(t.Context(), s, slog.New(slog.NewJSONHandler(&b, nil))); err != nil {
		t.Fatal(err)
	}
	var o map[string]any
	if err := json.Unmarshal(b.Bytes(), &o); err != nil || o["msg"] != "frame" || o["way"] != "received" || o["lost_before"] != 3.0 || !strings.HasPrefix(o["head"].(string), "MSRP abcd SEND\nTo-Path: ") {
		t.Errorf("%v %v", o, err)
	}
}

// FuzzHarmless: whatever a head is, its secrets stay.
func FuzzHarmless(f *testing.F) {
	f.Add("Authorization", "x")
	f.Add("To-Path", "msrp://a:1/b;tcp")
	f.Fuzz(func(t *testing.T, name, value string) {
		if strings.ContainsAny(name+value, ":\r\n") {
			t.Skip()
		}
		const id = "verysecretsession"
		head, ids := harmless("MSRP abcd AUTH\r\n" + name + ":" + value + "\r\nTo-Path: msrp://h:1/" + id + ";tcp " + value + "\r\nauthorization:" + id + value + "\r\n")
		if !strings.Contains(value, id) && !strings.Contains(name, id) && strings.Contains(head, id) || !slices.Contains(ids, id) {
			t.Errorf("%q %q", head, ids)
		}
	})
}
