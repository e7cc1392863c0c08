package host_test

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-msrp/parley/host/msrp"
)

// A ledger is what became of messages, by Message-ID, as its two ends saw it.
type ledger struct {
	mu                            sync.Mutex
	sent, accepted, refused, lost map[string]bool // by the responses to the sender
	delivered                     map[string]bool // whole at the receiver
	reported                      map[string]bool // by a REPORT to the sender
}

func newLedger() *ledger {
	l := new(ledger)
	for _, m := range []*map[string]bool{&l.sent, &l.accepted, &l.refused, &l.lost, &l.delivered, &l.reported} {
		*m = map[string]bool{}
	}
	return l
}

func (l *ledger) note(m map[string]bool, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m[id] = true
}

func (l *ledger) count(m map[string]bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(m)
}

// A bookkeeper is one end of a connection; it notes all in a ledger. As receiver it
// answers SENDs with code, or not at all if that is 0.
type bookkeeper struct {
	*agent
	l     *ledger
	code  int
	ready chan struct{} // as sender: one more may be sent
}

// bookkeeper connects to a listener and authenticates. It has window messages
// under way at a time.
func (w *site) bookkeeper(l *ledger, listener string, code, window int) *bookkeeper {
	w.t.Helper()
	secure := listener == "tls"
	k := &bookkeeper{l: l, code: code, ready: make(chan struct{}, window)}
	for range window {
		k.ready <- struct{}{}
	}
	k.agent = &agent{t: w.t, uri: uriOf("alice", secure), c: msrp.NewConn(msrp.ConnConfig{Handler: k})}
	nc := w.connect(listener, secure)
	ended := make(chan struct{})
	go func(nc net.Conn) {
		defer close(ended)
		_ = k.c.Serve(nc) // it ends when the relay does
	}(nc)
	w.t.Cleanup(func() {
		k.c.Close(nil)
		<-ended
	})
	k.enter(w, listener, "alice")
	return k
}

// ServePiece implements [msrp.Handler].
func (k *bookkeeper) ServePiece(c *msrp.Conn, p *msrp.Piece) {
	id := string(p.Head.MessageID)
	switch {
	case p.Head.Is("REPORT"):
		if p.Head.Status.Code == 200 {
			k.t.Errorf("success REPORT nobody asked for: %s", p.Head.Raw)
		}
		k.l.note(k.l.reported, id)
	case p.Last && p.Flag == msrp.Complete && k.code != 0:
		if k.code == 200 {
			k.l.note(k.l.delivered, id)
		}
		_ = c.Respond(p.Head, k.code, "", nil)
		c.Flush()
	}
}

// Done implements [msrp.Owner].
func (k *bookkeeper) Done(_ *msrp.Conn, tx *msrp.Transaction, r msrp.Result) {
	id := tx.MessageID.String()
	switch {
	case r.Head == nil:
		k.l.note(k.l.lost, id)
	case r.OK():
		k.l.note(k.l.accepted, id)
		k.ready <- struct{}{}
		return
	default:
		k.l.note(k.l.refused, id)
	}
}

// send sends short messages until one is refused, or the connection is over.
func (k *bookkeeper) send(to *bookkeeper, name string) {
	for n := 0; ; n++ {
		select {
		case <-k.ready:
		case <-k.c.Done():
			return
		}
		id := fmt.Sprintf("%s.%d", name, n)
		k.l.note(k.l.sent, id)
		path := strings.Join([]string{k.use, to.use, to.uri}, " ")
		body := []byte("hello " + id)
		err := k.c.Send(&msrp.Request{
			Method: []byte("SEND"), Paths: msrp.AppendPaths(nil, []byte(path), []byte(k.uri), nil),
			Before: []byte("Message-ID: " + id + "\r\n"), After: []byte("Content-Type: text/plain\r\n"),
			Range: msrp.ByteRange{Start: 1, End: int64(len(body)), Total: int64(len(body))}, Body: body, HasBody: true, Flag: msrp.Complete,
		}, &msrp.Transaction{Owner: k, MessageID: msrp.MakeIdent([]byte(id))})
		if err != nil { // nothing was sent
			k.l.mu.Lock()
			delete(k.l.sent, id)
			k.l.mu.Unlock()
			return
		}
		k.c.Flush()
		if k.l.count(k.l.sent)%100 == 0 {
			time.Sleep(time.Millisecond) // all of them share two cores
		}
	}
}

// TestDrainUnderLoad: the server ends while all sessions send, to receivers of which
// some refuse and some do not answer. Each message was answered to its sender, and
// each that was accepted was delivered, or reported (RELAY-82, RELAY-84).
func TestDrainUnderLoad(t *testing.T) {
	w := newSite(t, twoListeners+"drain: {timeout: 1s}\n")
	l := newLedger()
	var senders sync.WaitGroup
	var silent int
	start := make(chan struct{})
	for i := range loaded(t) / 2 {
		listeners := []string{"tls", "tcp"}
		code := 200
		switch i % 10 {
		case 3:
			code = 413
		case 7:
			code = 0
			silent++
		}
		b := w.bookkeeper(l, listeners[i%2], code, 0)
		a := w.bookkeeper(l, listeners[(i/2)%2], 200, 4)
		senders.Go(func() {
			<-start
			a.send(b, fmt.Sprintf("from%d", i))
		})
	}
	close(start) // connecting is slow beside senders
	for l.count(l.delivered) < 20*loaded(t) {
		time.Sleep(time.Millisecond)
	}
	begin := time.Now()
	w.end()
	senders.Wait()
	took := time.Since(begin)
	w.wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("%d sessions, drained in %v: %d messages sent, %d accepted, %d refused, %d without an answer; %d delivered, %d reported",
		loaded(t), took.Round(time.Millisecond), len(l.sent), len(l.accepted), len(l.refused), len(l.lost), len(l.delivered), len(l.reported))
	var missing []string
	for id := range l.sent {
		if !l.accepted[id] && !l.refused[id] {
			missing = append(missing, id+" was not answered")
		}
		if l.accepted[id] && !l.delivered[id] && !l.reported[id] {
			missing = append(missing, id+" was accepted, and neither delivered nor reported")
		}
		if l.refused[id] && l.reported[id] {
			missing = append(missing, id+" was refused, and reported as well")
		}
	}
	slices.Sort(missing)
	for _, m := range missing[:min(len(missing), 10)] {
		t.Error(m)
	}
	if len(missing) > 0 || silent == 0 || len(l.reported) < silent {
		t.Errorf("%d faults; %d silent receivers, %d messages reported, %v", len(missing), silent, len(l.reported), slices.Sorted(maps.Keys(l.lost)))
	}
}
