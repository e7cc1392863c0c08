package msrp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/parley-msrp/parley/host/msrp"
	"go.uber.org/goleak"
)

func epText(body string) *msrp.Message {
	return &msrp.Message{ContentType: "text/plain", Body: strings.NewReader(body)}
}

func epRandom(t *testing.T, n int) []byte {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	b := make([]byte, n)
	rand.New(rand.NewSource(seed)).Read(b)
	return b
}

// lines returns the header lines of a frame after From-Path, Byte-Range and
// Message-ID left out, and the Byte-Range.
func (f epFrame) lines() (rest []string, byteRange string) {
	for i, l := range strings.Split(strings.TrimSuffix(f.head, "\r\n"), "\r\n") {
		if v, ok := strings.CutPrefix(l, "Byte-Range: "); ok {
			byteRange = v
		} else if i > 2 && !strings.HasPrefix(l, "Message-ID: ") {
			rest = append(rest, l)
		}
	}
	return rest, byteRange
}

func epHeader(f epFrame, name string) string {
	for l := range strings.SplitSeq(f.head, "\r\n") {
		if v, ok := strings.CutPrefix(l, name+": "); ok {
			return v
		}
	}
	return ""
}

// How a message looks on the wire: CORE-28..31, CORE-43..54, CORE-62, CORE-66.
func TestSendFrames(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 200) // 3200
	type want struct {
		byteRange string
		size      int
		flag      msrp.Flag
	}
	for _, tc := range []struct {
		name string
		m    msrp.Message
		want []want
	}{
		{"CORE-48 short, size known", msrp.Message{Body: strings.NewReader("hello")}, []want{{"1-5/5", 5, '$'}}},
		{"CORE-48 short, size unknown", msrp.Message{Body: io.MultiReader(strings.NewReader("hello"))}, []want{{"1-5/5", 5, '$'}}},
		{"CORE-48 short, octet by octet", msrp.Message{Body: iotest.OneByteReader(strings.NewReader("hello")), Size: 5}, []want{{"1-5/5", 5, '$'}}},
		{"short, error beside the last octets", msrp.Message{Body: iotest.DataErrReader(strings.NewReader("hello")), Size: msrp.Unknown}, []want{{"1-5/5", 5, '$'}}},
		{"CORE-50 empty", msrp.Message{}, []want{{"1-0/0", 0, '$'}}},
		{"CORE-50 empty reader", msrp.Message{Body: io.MultiReader()}, []want{{"1-0/0", 0, '$'}}},
		{"CORE-52 2048", msrp.Message{Body: strings.NewReader(long[:2048])}, []want{{"1-2048/2048", 2048, '$'}}},
		{"CORE-52 2049", msrp.Message{Body: strings.NewReader(long[:2049])}, []want{{"1-*/2049", 2049, '$'}}},
		{"CORE-53 long, size unknown", msrp.Message{Body: io.MultiReader(strings.NewReader(long))}, []want{{"1-*/*", 3200, '$'}}},
		{"CORE-53 fixed chunks", msrp.Message{Body: strings.NewReader(long), Chunk: 1500}, []want{
			{"1-1500/3200", 1500, '+'}, {"1501-3000/3200", 1500, '+'}, {"3001-3200/3200", 200, '$'},
		}},
		{"CORE-53 fixed chunks that fit", msrp.Message{Body: strings.NewReader(long), Chunk: 1600}, []want{
			{"1-1600/3200", 1600, '+'}, {"1601-3200/3200", 1600, '$'},
		}},
		{"CORE-48 fixed chunks, size unknown", msrp.Message{Body: io.MultiReader(strings.NewReader(long)), Chunk: 2000}, []want{
			{"1-2000/*", 2000, '+'}, {"2001-3200/3200", 1200, '$'},
		}},
		{"CORE-52 long fixed chunks", msrp.Message{Body: strings.NewReader(strings.Repeat(long, 20)), Chunk: 30000}, []want{
			{"1-*/64000", 30000, '+'}, {"30001-*/64000", 30000, '+'}, {"60001-*/64000", 4000, '$'},
		}},
	} {
		inBubble(t, tc.name, func(t *testing.T) {
			_, s, p := active(t, msrp.EndpointConfig{}, msrp.SessionConfig{})
			var sent, confirmed int64
			tc.m.ContentType, tc.m.ID = "text/plain", "MyMessage1"
			tc.m.Headers = []string{"Content-Disposition: render", "X-Tag:"}
			var mu sync.Mutex
			tc.m.Progress = func(a, b int64) {
				mu.Lock()
				sent, confirmed = max(sent, a), max(confirmed, b)
				mu.Unlock()
			}
			o, err := s.Send(t.Context(), &tc.m)
			if err != nil {
				t.Fatal(err)
			}
			total := 0
			tids := map[string]bool{}
			for i, w := range tc.want {
				f := p.want("SEND\r\nTo-Path: "+epPeer+"\r\nFrom-Path: "+epLocal+"\r\n", "Message-ID: MyMessage1")
				rest, r := f.lines()
				if r != w.byteRange || len(f.body) != w.size || f.flag != w.flag || !f.hasBody ||
					!slices.Equal(rest, []string{"Content-Disposition: render", "X-Tag:", "Content-Type: text/plain"}) {
					t.Errorf("chunk %d is %s %d octets %c %q, want %v", i, r, len(f.body), f.flag, rest, w)
				}
				total += len(f.body)
				tids[f.tid] = true
				select {
				case <-o.Done():
					t.Error("done too early")
				default:
				}
				p.answer(f, "200 OK")
				synctest.Wait()
			}
			if err := o.Wait(t.Context()); err != nil || len(tids) != len(tc.want) || sent != int64(total) || confirmed != sent {
				t.Errorf("%v, sent %d, confirmed %d", err, sent, confirmed)
			}
		})
	}
}

func TestSendRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, p := active(t, msrp.EndpointConfig{}, msrp.SessionConfig{PeerTypes: []string{"text/*"}, PeerMaxSize: 5000})
		for name, m := range map[string]*msrp.Message{
			"no type":                     {},
			"type with CRLF":              {ContentType: "text/plain;\r\nX: y"},
			"CORE-43 Message-ID":          {ContentType: "text/plain", ID: "a b c d"},
			"header with CRLF":            {ContentType: "text/plain", Headers: []string{"X: y\r\nTo-Path: z"}},
			"header without name":         {ContentType: "text/plain", Headers: []string{"x y"}},
			"header of ours":              {ContentType: "text/plain", Headers: []string{"byte-range: 1-2/2"}},
			"CORE-37 transfer encoding":   {ContentType: "text/plain", Headers: []string{"Content-Transfer-Encoding: base64"}},
			"CORE-64 type not acceptable": {ContentType: "image/png"},
			"CORE-63 too large":           {ContentType: "text/plain", Body: strings.NewReader(strings.Repeat("x", 5001))},
			"too short":                   {ContentType: "text/plain", Body: io.MultiReader(strings.NewReader("xx")), Size: 3},
			"too long":                    {ContentType: "text/plain", Body: io.MultiReader(strings.NewReader("xxxx")), Size: 3},
			"no body at all":              {ContentType: "text/plain", Size: 3},
			"read error":                  {ContentType: "text/plain", Body: iotest.ErrReader(io.ErrNoProgress)},
			"chunk size":                  {ContentType: "text/plain", Chunk: -1},
		} {
			if _, err := s.Send(t.Context(), m); err == nil {
				t.Errorf("%s: sent", name)
			}
		}
		p.wantNothing()
	})
}

// What goes wrong in mid-message ends it with "#" (CORE-32, CORE-91, CORE-92).
func TestSendAborts(t *testing.T) {
	const piece = 16 << 10
	big := func() io.Reader { return strings.NewReader(strings.Repeat("x", 4<<20)) }
	for _, tc := range []struct {
		name  string
		m     msrp.Message
		do    func(s *msrp.Session, p *script, f epFrame, cancel func())
		check func(err error) bool
	}{
		{"413 response", msrp.Message{Body: big()}, func(_ *msrp.Session, p *script, f epFrame, _ func()) {
			p.answer(f, "413 enough")
		}, wantsStatus(413)},
		{"413 response, fixed chunks", msrp.Message{Body: big(), Chunk: 2048}, func(_ *msrp.Session, p *script, f epFrame, _ func()) {
			p.answer(f, "413 enough")
		}, wantsStatus(413)},
		{"481 response, long chunks", msrp.Message{Body: big(), Chunk: 10000}, func(_ *msrp.Session, p *script, f epFrame, _ func()) {
			p.answer(f, "481 gone")
		}, wantsStatus(481)},
		{"CORE-110 failure REPORT", msrp.Message{Body: big(), ID: "MyMessage1", Failure: msrp.Partial}, func(_ *msrp.Session, p *script, f epFrame, _ func()) {
			p.report("MyMessage1", "1-100/*", "000 415 what")
		}, wantsStatus(415)},
		{"ctx", msrp.Message{Body: big(), Failure: msrp.No}, func(_ *msrp.Session, _ *script, _ epFrame, cancel func()) {
			cancel()
		}, func(err error) bool { return errors.Is(err, context.Canceled) }},
		{"CORE-122 session closed", msrp.Message{Body: big()}, func(s *msrp.Session, _ *script, _ epFrame, _ func()) {
			s.Close()
		}, func(err error) bool { return errors.Is(err, msrp.ErrSessionClosed) }},
		{"body too short", msrp.Message{Body: io.LimitReader(big(), 3*piece), Size: 4 * piece}, nil, func(err error) bool { return errors.Is(err, msrp.ErrSize) }},
		{"body too long", msrp.Message{Body: io.LimitReader(big(), 4*piece), Size: 3 * piece}, nil, func(err error) bool { return errors.Is(err, msrp.ErrSize) }},
		{"read error", msrp.Message{Body: io.MultiReader(strings.NewReader(strings.Repeat("x", 3*piece)), iotest.ErrReader(io.ErrNoProgress))}, nil, func(err error) bool { return errors.Is(err, io.ErrNoProgress) }},
		{"CORE-63 peer's max-size", msrp.Message{Body: io.LimitReader(big(), 6<<20)}, nil, func(err error) bool { return errors.Is(err, msrp.ErrTooLarge) }},
	} {
		inBubble(t, tc.name, func(t *testing.T) {
			e := msrp.NewEndpoint(msrp.EndpointConfig{})
			c := e.NewConn(nil)
			s, err := e.NewSession(msrp.SessionConfig{
				Local: epLocal, Peer: []string{epPeer}, Conn: c, Handler: &mailbox{}, PeerMaxSize: 4 << 20,
			})
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(tc.name, "max-size") {
				tc.m.Body = io.MultiReader(big(), big())
			}
			near, far := newValve(), serveEndpoint(t, e, c)
			p := newScript(t, valved{far, near})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			tc.m.ContentType = "text/plain"
			failed := make(chan error)
			go func() {
				_, err := s.Send(ctx, &tc.m)
				failed <- err
			}()
			synctest.Wait() // it fills the outbox, and waits
			if tc.do != nil {
				// The script reads on only once the news has arrived.
				var f epFrame
				f.tid = near.tid()
				tc.do(s, p, f, cancel)
				synctest.Wait()
			}
			near.open()
			if err := <-failed; !tc.check(err) {
				t.Errorf("Send: %v", err)
			}
			var last epFrame
			n := int64(0)
			for last.flag != msrp.Abort {
				last = p.want("SEND")
				if !strings.HasPrefix(epHeader(last, "Byte-Range"), fmt.Sprint(n+1, "-")) {
					t.Errorf("at %d: %v", n, epHeader(last, "Byte-Range"))
				}
				n += int64(len(last.body))
			}
			if n == 0 || n > 4<<20 {
				t.Errorf("aborted after %d octets", n)
			}
			time.Sleep(time.Second)
			p.wantNothing()
		})
	}
}

func wantsStatus(code int) func(error) bool {
	return func(err error) bool {
		se, ok := errors.AsType[*msrp.StatusError](err)
		return ok && se.Code == code
	}
}

// CORE-48..51, CORE-71: 10 MB each way at once over one connection.
func TestTenMegabytesEachWay(t *testing.T) {
	defer goleak.VerifyNone(t)
	synctest.Test(t, func(t *testing.T) {
		a, b, boxA, boxB := pair(t, msrp.EndpointConfig{}, msrp.EndpointConfig{})
		if err := a.Bind(t.Context()); err != nil {
			t.Fatal(err)
		}
		data := epRandom(t, 10<<20)
		var wg sync.WaitGroup
		for _, s := range []*msrp.Session{a, b} {
			wg.Go(func() {
				var confirmed int64
				var mu sync.Mutex
				o, err := s.Send(t.Context(), &msrp.Message{
					ContentType: "application/octet-stream", Body: bytes.NewReader(data), Success: true,
					Progress: func(_, c int64) { mu.Lock(); confirmed = max(confirmed, c); mu.Unlock() },
				})
				if err == nil {
					err = o.Wait(t.Context())
				}
				mu.Lock()
				defer mu.Unlock()
				if err != nil || confirmed != 10<<20 {
					t.Errorf("%v, confirmed %d", err, confirmed)
				}
			})
		}
		wg.Wait()
		for _, box := range []*mailbox{boxA, boxB} {
			if got := box.mail(); len(got) != 1 || got[0].body != string(data) || len(box.heard()) != 1 {
				t.Errorf("%d messages, reports %v", len(got), box.heard())
			}
		}
		a.Close()
		b.Close()
	})
}

// CORE-118: the connection is lost in mid-message.
func TestSendConnectionLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, p := active(t, msrp.EndpointConfig{}, msrp.SessionConfig{})
		rd, wr := io.Pipe()
		failed := make(chan error)
		go func() {
			_, err := s.Send(t.Context(), &msrp.Message{ContentType: "text/plain", Body: rd})
			failed <- err
		}()
		wr.Write(make([]byte, 100000))
		p.nc.Close()
		go wr.Write(make([]byte, 1<<20))
		err := <-failed
		synctest.Wait()
		if err == nil || errors.Is(err, context.Canceled) || s.Err() == nil {
			t.Errorf("Send: %v, session: %v", err, s.Err())
		}
		rd.Close()
	})
}

// CORE-55, CORE-56: a response that waits interrupts the chunk, and the
// message goes on in another.
func TestResponseInterruptsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, s, p := active(t, msrp.EndpointConfig{}, msrp.SessionConfig{})
		rd, wr := io.Pipe()
		var o *msrp.Outgoing
		sent := make(chan error)
		go func() {
			var err error
			o, err = s.Send(t.Context(), &msrp.Message{ContentType: "text/plain", Body: rd})
			sent <- err
		}()
		wr.Write(bytes.Repeat([]byte("a"), 50000))
		p.wantNothing() // the chunk is open
		p.chunk("tid1", "Message-ID: mid1\n", "hi", msrp.Complete)
		f1 := p.want("SEND", "Byte-Range: 1-*/*")
		if f1.flag != msrp.Continue || len(f1.body) < 2048 {
			t.Errorf("first chunk: %d octets, %c", len(f1.body), f1.flag)
		}
		p.wantCode("tid1", 200)
		wr.Write(bytes.Repeat([]byte("b"), 50000))
		wr.Close()
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		f2 := p.want("SEND", fmt.Sprintf("Byte-Range: %d-*/*", len(f1.body)+1))
		if f2.flag != msrp.Complete || f1.body+f2.body != strings.Repeat("a", 50000)+strings.Repeat("b", 50000) ||
			f1.tid == f2.tid || epHeader(f1, "Message-ID") != epHeader(f2, "Message-ID") {
			t.Errorf("second chunk: %d octets, %c", len(f2.body), f2.flag)
		}
		p.answer(f1, "200 OK")
		synctest.Wait()
		select {
		case <-o.Done():
			t.Error("done with one response of two")
		default:
		}
		p.answer(f2, "200 OK")
		if err := o.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		box.wantMail(t, "hi")
	})
}

// A response may come before the chunk's end; it counts all the same.
func TestEarlyOK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := msrp.NewEndpoint(msrp.EndpointConfig{})
		c := e.NewConn(nil)
		s, err := e.NewSession(msrp.SessionConfig{Local: epLocal, Peer: []string{epPeer}, Conn: c, Handler: &mailbox{}})
		if err != nil {
			t.Fatal(err)
		}
		v := newValve()
		p := newScript(t, valved{serveEndpoint(t, e, c), v})
		rd, wr := io.Pipe()
		go func() {
			wr.Write(make([]byte, 50000))
			synctest.Wait()
			p.answer(epFrame{tid: v.tid()}, "200 OK")
			wr.Close()
		}()
		v.open()
		o, err := s.Send(t.Context(), &msrp.Message{ContentType: "text/plain", Body: rd})
		if err != nil {
			t.Fatal(err)
		}
		p.want("SEND")
		if err := o.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// CORE-57: sessions that share a connection alternate.
func TestSessionsShareConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := msrp.NewEndpoint(msrp.EndpointConfig{})
		c := e.NewConn(nil)
		const size = 2 << 20
		var wg sync.WaitGroup
		for _, id := range []string{"MessageA", "MessageB", "MessageC"} {
			s, err := e.NewSession(msrp.SessionConfig{
				Local: "msrp://a.example:1/" + id + ";tcp", Peer: []string{epPeer}, Conn: c, Handler: &mailbox{},
			})
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				if _, err := s.Send(t.Context(), &msrp.Message{
					ID: id, ContentType: "text/plain", Body: bytes.NewReader(make([]byte, size)), Failure: msrp.No,
				}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait() // all wait for the connection
		p := newScript(t, slow{serveEndpoint(t, e, c)})
		wg.Wait()
		have := map[string]int{}
		lead := 0
		for have["MessageA"]+have["MessageB"]+have["MessageC"] < 3*size {
			f := p.want("SEND")
			if f.flag == msrp.Continue && len(f.body) < 2048 {
				t.Errorf("chunk of %d octets (CORE-54)", len(f.body))
			}
			have[epHeader(f, "Message-ID")] += len(f.body)
			low := min(have["MessageA"], have["MessageB"], have["MessageC"])
			lead = max(lead, max(have["MessageA"], have["MessageB"], have["MessageC"])-low)
		}
		// The first may have filled the outbox before the others came, and who is
		// late for a turn may lose a few.
		if lead > 512<<10 {
			t.Errorf("one was ahead by %d octets", lead)
		}
	})
}

// A slow connection is read at 16 MB a second, so that all who send wait.
type slow struct{ net.Conn }

func (c slow) Read(b []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return c.Conn.Read(b)
}

// Two endpoints: what is refused at one comes out of Wait at the other.
func TestPairRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, _, boxB := pair(t, msrp.EndpointConfig{}, msrp.EndpointConfig{Limits: msrp.Limits{Message: 1 << 20}})
		o, err := a.Send(t.Context(), &msrp.Message{ContentType: "text/plain", Body: io.LimitReader(zeros{}, 8<<20)})
		if err == nil {
			err = o.Wait(t.Context()) // all of it was queued before the answer came
		}
		if !wantsStatus(413)(err) {
			t.Errorf("the refusal: %v", err)
		}
		o, err = a.Send(t.Context(), epText("hello"))
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		boxB.wantMail(t, "!msrp: 413 Message too large", "hello")
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// Who waits for a message has heard of all of its progress, and of its REPORT.
func TestProgressBeforeWaitReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, box, _ := pair(t, msrp.EndpointConfig{}, msrp.EndpointConfig{})
		var confirmed atomic.Int64
		o, err := a.Send(t.Context(), &msrp.Message{
			ContentType: "text/plain", Body: strings.NewReader("hello"), Success: true,
			Progress: func(_, c int64) {
				time.Sleep(time.Second)
				confirmed.Store(max(confirmed.Load(), c))
			},
		})
		if err == nil {
			err = o.Wait(t.Context())
		}
		if err != nil || confirmed.Load() != 5 || len(box.heard()) != 1 {
			t.Errorf("%v, confirmed %d, reports %v", err, confirmed.Load(), box.heard())
		}
	})
}
