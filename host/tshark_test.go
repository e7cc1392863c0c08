package host_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/parley-msrp/parley/host/msrp"
)

// A capture writes what connections carry as a capture file.
type capture struct {
	mu   sync.Mutex
	w    *pcapgo.Writer
	f    *os.File
	n    int
	open map[string]bool // SENDs and AUTHs without a response, by connection and transaction
	idle chan struct{}   // gets a value whenever there are none
}

func newCapture(t *testing.T) *capture {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "chat.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	c := &capture{w: pcapgo.NewWriter(f), f: f, open: map[string]bool{}, idle: make(chan struct{}, 1)}
	if err := c.w.WriteFileHeader(65535, layers.LinkTypeIPv4); err != nil {
		t.Fatal(err)
	}
	return c
}

// tap records a client's connection to port 2855.
func (c *capture) tap(nc net.Conn) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return &tapped{Conn: nc, c: c, port: layers.TCPPort(40000 + c.n), seq: [2]uint32{1, 1}}
}

type tapped struct {
	net.Conn
	c    *capture
	port layers.TCPPort
	seq  [2]uint32
	rest [2][]byte // the beginning of a frame
}

func (t *tapped) Write(b []byte) (int, error) {
	t.frames(0, b)
	return t.Conn.Write(b)
}

func (t *tapped) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.frames(1, b[:n])
	return n, err
}

// frames records octets that went out (0) or came in (1), a packet for each
// frame: tshark reads one frame of a segment and leaves the others.
func (t *tapped) frames(way int, b []byte) {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	t.rest[way] = append(t.rest[way], b...)
	for {
		_, after, ok := bytes.Cut(t.rest[way], []byte("MSRP "))
		tid, _, ok2 := bytes.Cut(after, []byte(" "))
		if !ok || !ok2 {
			return
		}
		end := bytes.Index(t.rest[way], []byte("-------"+string(tid)))
		size := end + 7 + len(tid) + 3
		if end < 0 || size > len(t.rest[way]) {
			return
		}
		t.packet(way, t.rest[way][:size])
		what := string(after[len(tid):][:min(5, len(after)-len(tid))])
		t.c.note(t.port, way, string(tid), what == " SEND" || what == " AUTH")
		t.rest[way] = t.rest[way][size:]
	}
}

// note remembers a SEND or AUTH, and forgets it with its response. c.mu is held.
func (c *capture) note(port layers.TCPPort, way int, tid string, request bool) {
	if request {
		c.open[fmt.Sprint(port, way, tid)] = true
		return
	}
	delete(c.open, fmt.Sprint(port, 1-way, tid))
	if len(c.open) == 0 {
		select {
		case c.idle <- struct{}{}:
		default:
		}
	}
}

// wait waits until every SEND and AUTH has its response, on each connection.
func (c *capture) wait(t *testing.T) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		c.mu.Lock()
		open := len(c.open)
		c.mu.Unlock()
		if open == 0 {
			return
		}
		select {
		case <-c.idle:
		case <-late:
			t.Fatalf("%d requests without a response", open)
		}
	}
}

// judge has tshark read what was recorded, and returns how many frames it saw by
// method and status code.
func (c *capture) judge(t *testing.T) map[string]int {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	tshark := func(args ...string) string {
		t.Helper()
		var stderr bytes.Buffer
		cmd := exec.Command("tshark", append([]string{"-r", c.f.Name(), "-d", "tcp.port==2855,msrp"}, args...)...)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, stderr.String())
		}
		return string(out)
	}
	if bad := tshark("-Y", "_ws.malformed || tcp.analysis.flags || !msrp", "-V"); bad != "" {
		t.Errorf("malformed:\n%s", bad)
	}
	count := map[string]int{}
	for _, field := range []string{"msrp.method", "msrp.status.code"} {
		for _, what := range strings.Fields(strings.ReplaceAll(tshark("-Y", field, "-T", "fields", "-e", field), ",", " ")) {
			count[what]++
		}
	}
	t.Logf("tshark saw %v", count)
	return count
}

func (t *tapped) packet(way int, b []byte) {
	client, relay := net.IPv4(192, 0, 2, 1).To4(), net.IPv4(192, 0, 2, 2).To4()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: client, DstIP: relay}
	tcp := &layers.TCP{SrcPort: t.port, DstPort: 2855, Seq: t.seq[way], Ack: t.seq[1-way], ACK: true, PSH: true, Window: 65000}
	if way == 1 {
		ip.SrcIP, ip.DstIP = relay, client
		tcp.SrcPort, tcp.DstPort = tcp.DstPort, tcp.SrcPort
	}
	t.seq[way] += uint32(len(b))
	_ = tcp.SetNetworkLayerForChecksum(ip) // never fails for IPv4
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, tcp, gopacket.Payload(b)); err != nil {
		panic(err)
	}
	data := buf.Bytes()
	if err := t.c.w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: len(data), Length: len(data)}, data); err != nil {
		panic(err)
	}
}

// needTool skips a test by name where a tool is absent, and fails it where
// none may be.
func needTool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("PARLEY_REQUIRE_TOOLS") != "" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed (Debian: apt install %s)", name, name)
}

// TestTshark lets an independent judge read a chat through the relay.
func TestTshark(t *testing.T) {
	needTool(t, "tshark")
	w := newSite(t, twoListeners)
	c := newCapture(t)
	a := w.client("tcp", "alice", false, c.tap)
	b := w.client("tcp", "bob", false, c.tap)
	answer := b.session()
	s := a.session(a.use, b.use, b.uri)
	if err := s.Bind(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"hello", "", "grüße, -------\r\n-------", strings.Repeat("long ", 2000)} {
		for from, to := range map[*msrp.Session]*agent{s: b, answer: a} {
			me := a
			if from == answer {
				me = b
			}
			if err := me.send(from, []byte(text), 0); err != nil {
				t.Fatal(err)
			}
			if got := <-to.got; got != text {
				t.Fatalf("got %q", got)
			}
		}
	}
	a.c.Close(nil)
	b.c.Close(nil)
	<-a.c.Done()
	<-b.c.Done()
	count := c.judge(t)
	// 8 messages and one bind, each seen at both clients; each message with a
	// success report; two AUTHs each.
	for what, least := range map[string]int{"AUTH": 4, "SEND": 18, "REPORT": 16, "200": 20, "401": 2} {
		if count[what] < least {
			t.Errorf("tshark saw %d of %s, want %d", count[what], what, least)
		}
	}
}
