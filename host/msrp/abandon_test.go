package msrp_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/msrptest"
)

// told collects the ends of transactions, by Message-ID.
type told map[string][]error

func (d told) Done(_ *msrp.Conn, tx *msrp.Transaction, r msrp.Result) {
	id := tx.MessageID.String()
	d[id] = append(d[id], r.Err)
}

// TestAbandon: each transaction ends once, with the reason, also that of a stream that
// is open and of a request that is not written yet. Responses that come later are
// dropped. REPORTs still leave, and no other request does.
func TestAbandon(t *testing.T) {
	why := errors.New("enough")
	served(t, msrp.Limits{}, nil, func(t *testing.T, c *msrp.Conn, p *msrptest.Peer, _ net.Conn, _ <-chan error) {
		ends := told{}
		request := func(id string) *msrp.Request {
			return &msrp.Request{
				Method: []byte("SEND"), Paths: msrp.AppendPaths(nil, []byte(farURI), []byte(nearURI), nil),
				Before: []byte("Message-ID: " + id + "\r\n"), After: []byte("Content-Type: text/plain\r\n"),
				Range: msrp.ByteRange{Start: 1, End: 1, Total: 1}, Body: []byte("x"), HasBody: true, Flag: msrp.Complete,
			}
		}
		send := func(id string) error {
			return c.Send(request(id), &msrp.Transaction{Owner: ends, MessageID: msrp.MakeIdent([]byte(id))})
		}
		for i := range 3 {
			if err := send(fmt.Sprint("sent", i)); err != nil {
				t.Fatal(err)
			}
		}
		c.Flush()
		first := p.WantRequest("SEND")
		p.Respond(first, 200)
		p.WantRequest("SEND")
		late := p.WantRequest("SEND")
		rq := request("open")
		rq.Range = msrp.ByteRange{Start: 1, End: msrp.Unknown, Total: msrp.Unknown}
		s := c.NewStream(rq, &msrp.Transaction{Owner: ends, MessageID: msrp.MakeIdent([]byte("open"))})
		if err := s.Write([]byte(strings.Repeat("y", 3000)), 0); err != nil {
			t.Fatal(err)
		}
		c.Flush()
		synctest.Wait()
		p.Limit(1)
		if err := send("queued"); err != nil {
			t.Fatal(err)
		}
		c.Abandon(why)
		c.Abandon(errors.New("again"))
		want := fmt.Sprint(told{"sent0": {nil}, "sent1": {why}, "sent2": {why}, "open": {why}, "queued": {why}})
		if got := fmt.Sprint(ends); got != want {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		if n := c.Pending(); n != 0 {
			t.Errorf("%d requests wait for a response", n)
		}
		if err := send("new"); err != msrp.ErrClosed {
			t.Errorf("a new SEND: %v", err)
		}
		report := request("sent1")
		report.Method, report.Body, report.HasBody = []byte("REPORT"), nil, false
		if err := c.Send(report, nil); err != nil {
			t.Errorf("a REPORT: %v", err)
		}
		c.Finish(nil)
		p.Limit(0)
		p.Respond(late, 200)
		synctest.Wait()
		if got := fmt.Sprint(ends); got != want {
			t.Errorf("after a late response: %v", got)
		}
		for {
			if f := p.Next(); f.Method == "REPORT" {
				break
			}
		}
		p.WantClosed()
	})
}
