package msrp_test

import (
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-msrp/parley/host/msrp"
)

func TestReceiveChunks(t *testing.T) {
	type step struct {
		headers, body string
		flag          msrp.Flag
		code          int
	}
	const m = "Message-ID: mid1\n"
	for _, tc := range []struct {
		name  string
		steps []step
		want  []string
	}{
		{"CORE-68 whole without Byte-Range", []step{{m, "hello", '$', 200}}, []string{"hello"}},
		{"CORE-31 empty body is a message", []step{{m + "Byte-Range: 1-0/0\n", "", '$', 200}}, []string{""}},
		{"CORE-69 wrong range-end", []step{{m + "Byte-Range: 1-25/25\n", "hello", '$', 200}}, []string{"hello"}},
		{"CORE-70 the end-line tells the total", []step{
			{m + "Byte-Range: 1-*/100\n", "hello ", '+', 200}, {m + "Byte-Range: 7-*/100\n", "world", '$', 200},
		}, []string{"hello world"}},
		{"CORE-71 last chunk first", []step{
			{m + "Byte-Range: 7-11/11\n", "world", '$', 200}, {m + "Byte-Range: 1-6/11\n", "hello ", '+', 200},
		}, []string{"hello world"}},
		{"CORE-72 overlap", []step{
			{m + "Byte-Range: 1-10/15\n", "aaaaaaaaaa", '+', 200}, {m + "Byte-Range: 6-15/15\n", "bbbbbbbbbb", '$', 200},
		}, []string{"aaaaabbbbbbbbbb"}},
		{"CORE-72 overlap, out of order", []step{
			{m + "Byte-Range: 6-15/15\n", "bbbbbbbbbb", '$', 200}, {m + "Byte-Range: 1-10/15\n", "aaaaaaaaaa", '+', 200},
		}, []string{"aaaaaaaaaabbbbb"}},
		{"CORE-60 empty chunks", []step{
			{m + "Byte-Range: 1-*/*\n", "", '+', 200}, {m + "Byte-Range: 1-*/*\n", "hi", '+', 200}, {m + "Byte-Range: 3-*/*\n", "", '$', 200},
		}, []string{"hi"}},
		{"CORE-73 aborted", []step{
			{m + "Byte-Range: 1-*/20\n", "hello ", '+', 200}, {m + "Byte-Range: 7-*/20\n", "wo", '#', 200},
		}, []string{"!" + msrp.ErrAborted.Error()}},
		{"CORE-73 aborted in the first chunk", []step{{m, "hello ", '#', 200}}, nil},
		{"CORE-73 chunk after the abort", []step{
			{m + "Byte-Range: 1-*/20\n", "hello ", '+', 200}, {m + "Byte-Range: 7-*/20\n", "", '#', 200}, {m + "Byte-Range: 9-*/20\n", "x", '+', 413},
		}, []string{"!" + msrp.ErrAborted.Error()}},
		{"CORE-73 anew after the abort", []step{
			{m + "Byte-Range: 1-*/20\n", "hello ", '+', 200}, {m + "Byte-Range: 7-*/20\n", "", '#', 200}, {m, "hi", '$', 200},
		}, []string{"!" + msrp.ErrAborted.Error(), "hi"}},
		{"CORE-75 duplicate", []step{{m, "hello", '$', 200}, {m, "hello", '$', 200}}, []string{"hello"}},
		{"CORE-162 total below the real end", []step{
			{m + "Byte-Range: 1-*/3\n", "hello", '$', 400}, {m, "again", '$', 400},
		}, []string{"!msrp: 400 more octets than the total"}},
		{"CORE-162 octets after the end", []step{
			{m + "Byte-Range: 3-4/4\n", "cd", '$', 200}, {m + "Byte-Range: 5-6/*\n", "ef", '+', 400},
		}, []string{"!msrp: 400 more octets than the total"}},
		{"CORE-162 end before octets", []step{
			{m + "Byte-Range: 5-6/*\n", "ef", '+', 200}, {m + "Byte-Range: 1-2/*\n", "ab", '$', 400},
		}, []string{"!msrp: 400 octets beyond the end"}},
		{"CORE-68 two messages interleaved", []step{
			{m + "Byte-Range: 1-*/*\n", "one ", '+', 200},
			{"Message-ID: mid2\nByte-Range: 1-*/*\n", "two ", '+', 200},
			{m + "Byte-Range: 5-*/*\n", "1", '$', 200},
			{"Message-ID: mid2\nByte-Range: 5-*/*\n", "2", '$', 200},
		}, []string{"one 1", "two 2"}},
		{"CORE-74 huge start", []step{{m + "Byte-Range: 99999999999999999-*/*\n", "x", '$', 413}, {m, "x", '$', 413}}, nil},
		{"CORE-80 announced too large", []step{{m + "Byte-Range: 1-*/1073741825\n", "x", '$', 413}}, nil},
	} {
		inBubble(t, tc.name, func(t *testing.T) {
			box, _, p := scripted(t, msrp.EndpointConfig{}, msrp.SessionConfig{})
			for i, st := range tc.steps {
				tid := fmt.Sprint("tid", i)
				p.chunk(tid, st.headers, st.body, st.flag)
				p.wantCode(tid, st.code)
			}
			p.wantNothing()
			box.wantMail(t, tc.want...)
		})
	}
}

// CORE-73: an abort needs no body.
func TestReceiveBodilessAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, _, p := scripted(t, msrp.EndpointConfig{}, msrp.SessionConfig{})
		p.chunk("tid1", "Message-ID: mid1\nByte-Range: 1-*/20\n", "hello", msrp.Continue)
		p.wantCode("tid1", 200)
		// CORE-31: a keep-alive is no chunk, whatever Message-ID it has.
		p.write(epHead("tid2", "SEND") + "Message-ID: mid1\nByte-Range: 1-0/0\n-------tid2$\n")
		p.wantCode("tid2", 200)
		box.wantMail(t)
		p.write(epHead("tid3", "SEND") + "Message-ID: mid1\nByte-Range: 6-*/20\n-------tid3#\n")
		p.wantCode("tid3", 200)
		box.wantMail(t, "!"+msrp.ErrAborted.Error())
	})
}

// CORE-67..72 against a model: random chunks, in random order, overlapping,
// some twice, with octets of their own.
func TestReassemblyModel(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewSource(seed))
	for range 200 {
		size := r.Intn(20000)
		if r.Intn(4) > 0 {
			size = r.Intn(60)
		}
		type chunk struct {
			from int
			body string
			flag msrp.Flag
		}
		random := func(n int) string {
			b := make([]byte, n)
			for i := range b {
				b[i] = byte('a' + r.Intn(26))
			}
			return string(b)
		}
		var cs []chunk
		for at := 0; at < size || len(cs) == 0; {
			n := min(size-at, 1+r.Intn(max(1, size/3)))
			flag := msrp.Continue
			if at+n == size {
				flag = msrp.Complete
			}
			cs = append(cs, chunk{at, random(n), flag})
			at += n
		}
		for range r.Intn(4) { // more of the same octets
			from := r.Intn(size + 1)
			n := r.Intn(size - from + 1)
			flag := msrp.Continue
			if from+n == size && r.Intn(2) == 0 {
				flag = msrp.Complete
			}
			cs = append(cs, chunk{from, random(n), flag})
		}
		r.Shuffle(len(cs), func(i, j int) { cs[i], cs[j] = cs[j], cs[i] })

		have, octets, ended, want := make([]bool, size), make([]byte, size), false, ""
		done := false
		for _, c := range cs {
			if done {
				break // duplicates
			}
			copy(octets[c.from:], c.body)
			for i := range c.body {
				have[c.from+i] = true
			}
			ended = ended || c.flag == msrp.Complete
			if ended && !slices.Contains(have, false) {
				done, want = true, string(octets)
			}
		}
		synctest.Test(t, func(t *testing.T) {
			box, _, p := scripted(t, msrp.EndpointConfig{Limits: msrp.Limits{Piece: 1 + r.Intn(3000)}}, msrp.SessionConfig{})
			for i, c := range cs {
				end := "*"
				if r.Intn(2) == 0 {
					end = fmt.Sprint(c.from + len(c.body))
				}
				p.chunk(fmt.Sprint("tid", i), fmt.Sprintf("Message-ID: mid1\nByte-Range: %d-%s/*\n", c.from+1, end), c.body, c.flag)
				p.wantCode(fmt.Sprint("tid", i), 200)
			}
			synctest.Wait()
			if got := box.mail(); len(got) != 1 || got[0].err != nil || got[0].body != want {
				t.Fatalf("seed %d: %d chunks of %d octets delivered %d times, or wrongly", seed, len(cs), size, len(got))
			}
		})
		if t.Failed() {
			return
		}
	}
}

// Which answers and REPORTs are due (RFC 4975 §7.1.1, §7.2; CORE-79..83,
// CORE-102, CORE-103, CORE-106), for every wish.
func TestReportMatrix(t *testing.T) {
	for _, failure := range []string{"", "yes", "partial", "no"} {
		for _, success := range []string{"", "yes", "no"} {
			for _, end := range []string{"accepted", "refused", "sink fails", "done fails", "later ok", "later fails"} {
				inBubble(t, fmt.Sprintf("failure=%s/success=%s/%s", failure, success, end), func(t *testing.T) {
					var later *msrp.Incoming
					box := &mailbox{judge: func(_ *msrp.Session, m *msrp.Incoming) (msrp.Sink, msrp.Status) {
						switch end {
						case "refused":
							return nil, msrp.Status{Code: 403, Comment: "not you"}
						case "sink fails":
							return badSink{write: errors.New("disk full")}, msrp.Status{}
						case "done fails":
							return badSink{done: &msrp.StatusError{Code: 403}}, msrp.Status{}
						case "later ok", "later fails":
							later = m
							m.DeferReport()
						}
						return nil, msrp.Status{}
					}}
					_, _, p := scripted(t, msrp.EndpointConfig{}, msrp.SessionConfig{Handler: box})
					h := "Message-ID: mid1\n"
					if failure != "" {
						h += "Failure-Report: " + failure + "\n"
					}
					if success != "" {
						h += "Success-Report: " + success + "\n"
					}
					p.chunk("tid1", h, "hello", msrp.Complete)
					synctest.Wait()
					wantsYes := failure == "" || failure == "yes"
					switch end {
					case "accepted", "later ok", "later fails":
						if wantsYes {
							p.wantCode("tid1", 200)
						}
					case "sink fails":
						if failure != "no" {
							p.wantCode("tid1", 413)
						}
					default:
						if failure != "no" {
							p.wantCode("tid1", 403)
						}
					}
					st := msrp.Status{Code: 200}
					report := end == "accepted" || end == "later ok"
					if later != nil {
						p.wantNothing()
						if end == "later fails" {
							st = msrp.Status{Code: 480, Comment: "gone\r\nX: y"} // the comment cannot be sent
						}
						if err := later.Report(st); err != nil {
							t.Error(err)
						}
						if later.Report(st) == nil {
							t.Error("reported twice")
						}
						synctest.Wait()
					}
					if report && success == "yes" {
						p.want("REPORT", "To-Path: "+epPeer, "From-Path: "+epLocal, "Message-ID: mid1", "Byte-Range: 1-5/5", "Status: 000 200 OK")
					}
					if end == "later fails" && failure != "no" {
						f := p.want("REPORT", "Byte-Range: 1-5/5")
						if !strings.Contains(f.head, "\r\nStatus: 000 480") || strings.Contains(f.head, "X: y") ||
							strings.Contains(f.head, "-Report:") { // CORE-98
							t.Errorf("report %v", f)
						}
					}
					p.wantNothing()
				})
			}
		}
	}
}

type badSink struct{ write, done error }

func (s badSink) WriteAt(b []byte, _ int64) (int, error) { return len(b), s.write }
func (s badSink) Done(err error) error {
	if err == nil {
		return s.done
	}
	return nil
}

// CORE-75: a duplicate is acknowledged and reported, not delivered.
// CORE-100: REPORTs take the whole way back.
func TestDuplicateReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, _, p := scripted(t, msrp.EndpointConfig{}, msrp.SessionConfig{})
		const way = "msrp://r1.example:1/r1;tcp " + epPeer
		send := func(tid, rng, body string, flag msrp.Flag) {
			p.write(strings.Replace(epHead(tid, "SEND"), epPeer, way, 1) + "Message-ID: mid1\nByte-Range: " + rng +
				"\nSuccess-Report: yes\nContent-Type: text/plain\n\n" + body + "\n-------" + tid + string(flag) + "\n")
			p.wantCode(tid, 200)
		}
		send("tid1", "1-*/10", "hello", '+')
		send("tid2", "6-*/10", "world", '$')
		p.want("REPORT", "To-Path: "+way, "From-Path: "+epLocal, "Byte-Range: 1-10/10", "Status: 000 200 OK")
		send("tid3", "6-*/10", "world", '$')
		p.want("REPORT", "To-Path: "+way, "Byte-Range: 6-10/10", "Status: 000 200 OK")
		p.wantNothing()
		box.wantMail(t, "helloworld")
	})
}

// CORE-79, CORE-75: a message whose outcome came late is reported with it again.
func TestDuplicateOfDeferred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m *msrp.Incoming
		box := &mailbox{judge: func(_ *msrp.Session, in *msrp.Incoming) (msrp.Sink, msrp.Status) {
			m = in
			in.DeferReport()
			return nil, msrp.Status{}
		}}
		_, _, p := scripted(t, msrp.EndpointConfig{}, msrp.SessionConfig{Handler: box})
		p.chunk("tid1", "Message-ID: mid1\nByte-Range: 1-*/*\n", "hel", msrp.Continue)
		p.wantCode("tid1", 200)
		if err := m.Report(msrp.Status{Code: 200}); err != msrp.ErrIncomplete {
			t.Errorf("report on half a message: %v", err)
		}
		p.chunk("tid2", "Message-ID: mid1\nByte-Range: 4-*/*\n", "lo", msrp.Complete)
		p.wantCode("tid2", 200)
		p.chunk("tid3", "Message-ID: mid1\n", "hello", msrp.Complete)
		p.wantCode("tid3", 200)
		p.wantNothing()
		if err := m.Report(msrp.Status{Code: 403}); err != nil {
			t.Error(err)
		}
		p.want("REPORT", "Byte-Range: 1-5/5", "Status: 000 403 Forbidden")
		p.chunk("tid4", "Message-ID: mid1\n", "hello", msrp.Complete)
		p.wantCode("tid4", 200)
		p.want("REPORT", "Byte-Range: 1-5/5", "Status: 000 403 Forbidden")
		p.wantNothing()
	})
}

// CORE-158: a refusal does not wait for the body, which is dropped.
// CORE-159: later chunks get the same answer, and Receive is not asked again.
func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := &mailbox{judge: func(*msrp.Session, *msrp.Incoming) (msrp.Sink, msrp.Status) {
			return nil, msrp.Status{Code: 403, Comment: "no files"}
		}}
		_, _, p := scripted(t, msrp.EndpointConfig{Limits: msrp.Limits{Piece: 100}}, msrp.SessionConfig{Handler: box})
		p.write(epHead("tid1", "SEND") + "Message-ID: mid1\nByte-Range: 1-*/900000\nContent-Type: text/plain\n\n" + strings.Repeat("x", 400))
		p.want("403 no files")
		p.write(strings.Repeat("x", 3000) + "\n-------tid1+\n")
		p.wantNothing()
		p.chunk("tid2", "Message-ID: mid1\nByte-Range: 3401-*/900000\n", "xx", msrp.Abort)
		p.want("403 no files")
		p.chunk("tid3", "Message-ID: mid1\nFailure-Report: no\nByte-Range: 3401-*/900000\n", "xx", msrp.Abort)
		p.wantNothing()
		if len(box.asked) != 1 {
			t.Errorf("asked about %v", box.asked)
		}
	})
}

// CORE-76, CORE-134..136: what accept-types says.
func TestAcceptTypes(t *testing.T) {
	for _, tc := range []struct {
		accept, typ string
		code        int
	}{
		{"", "x/y", 200},
		{"*", "x/y", 200},
		{"text/plain", "text/plain", 200},
		{"text/plain", "Text/PLAIN; charset=utf-8", 200},
		{"text/plain;format=flowed", "text/plain", 200},
		{"text/plain", "text/html", 415},
		{"image/png text/*", "text/html", 200},
		{"text/*", "image/png", 415},
		{"message/cpim multipart/mixed", "multipart/mixed;boundary=\"x\"", 200},
	} {
		inBubble(t, tc.accept+" "+tc.typ, func(t *testing.T) {
			_, _, p := scripted(t, msrp.EndpointConfig{}, msrp.SessionConfig{AcceptTypes: strings.Fields(tc.accept)})
			p.write(epHead("tid1", "SEND") + "Message-ID: mid1\nContent-Type: " + tc.typ + "\n\nhi\n-------tid1$\n")
			p.wantCode("tid1", tc.code)
		})
	}
}

// What a peer can make us hold is bounded (CORE-74).
func TestReceiveBounds(t *testing.T) {
	one := func(p *script, tid, id, rng, body string, flag msrp.Flag, code int) {
		p.t.Helper()
		p.chunk(tid, "Message-ID: "+id+"\nByte-Range: "+rng+"\n", body, flag)
		p.wantCode(tid, code)
	}
	inBubble(t, "Message", func(t *testing.T) {
		box, _, p := scripted(t, msrp.EndpointConfig{Limits: msrp.Limits{Message: 10}}, msrp.SessionConfig{})
		one(p, "tid1", "mid1", "1-*/*", "0123456789", '+', 200)
		one(p, "tid2", "mid1", "11-*/*", "x", '$', 413)
		one(p, "tid3", "mid2", "1-*/*", "0123456789", '$', 200)
		box.wantMail(t, "!msrp: 413 Message too large", "0123456789")
	})
	inBubble(t, "MaxSize", func(t *testing.T) {
		box, _, p := scripted(t, msrp.EndpointConfig{}, msrp.SessionConfig{MaxSize: 4})
		one(p, "tid1", "mid1", "1-5/5", "01234", '$', 413)
		one(p, "tid2", "mid2", "1-*/*", "01234", '$', 413)
		one(p, "tid3", "mid3", "1-*/*", "0123", '$', 200)
		box.wantMail(t, "!msrp: 413 Message too large", "0123")
	})
	inBubble(t, "Extents", func(t *testing.T) {
		box, _, p := scripted(t, msrp.EndpointConfig{Limits: msrp.Limits{Extents: 3}}, msrp.SessionConfig{})
		for i := range 3 {
			one(p, "tid1", "mid1", fmt.Sprintf("%d-*/*", 10*i+5), "x", '+', 200)
		}
		one(p, "tid2", "mid1", "6-*/*", "x", '+', 200) // touches the first
		one(p, "tid3", "mid1", "100-*/*", "x", '+', 413)
		box.wantMail(t, "!msrp: 413 Message too large")
	})
	inBubble(t, "Partials", func(t *testing.T) {
		box, _, p := scripted(t, msrp.EndpointConfig{Limits: msrp.Limits{Partials: 2}}, msrp.SessionConfig{})
		one(p, "tid1", "mid1", "1-*/*", "a", '+', 200)
		time.Sleep(time.Second)
		one(p, "tid2", "mid2", "1-*/*", "b", '+', 200)
		time.Sleep(time.Second)
		one(p, "tid3", "mid1", "2-*/*", "a", '+', 200)
		one(p, "tid4", "mid4", "1-*/*", "whole", '$', 200) // needs no place
		box.wantMail(t, "whole")
		time.Sleep(time.Second)
		one(p, "tid5", "mid3", "1-*/*", "c", '+', 200)
		one(p, "tid6", "mid2", "2-*/*", "b", '$', 413) // was the oldest
		one(p, "tid7", "mid1", "3-*/*", "a", '$', 200)
		box.wantMail(t, "whole", "!"+msrp.ErrExpired.Error(), "aaa")
	})
	inBubble(t, "PartialIdle", func(t *testing.T) {
		box, _, p := scripted(t, msrp.EndpointConfig{}, msrp.SessionConfig{})
		one(p, "tid1", "mid1", "1-*/*", "a", '+', 200)
		time.Sleep(9 * time.Minute)
		one(p, "tid2", "mid2", "1-*/*", "b", '+', 200)
		one(p, "tid3", "mid1", "2-*/*", "a", '+', 200)
		time.Sleep(9 * time.Minute)
		one(p, "tid4", "mid2", "2-*/*", "b", '+', 200)
		box.wantMail(t)
		time.Sleep(time.Minute + time.Second)
		box.wantMail(t, "!"+msrp.ErrExpired.Error())
		one(p, "tid5", "mid1", "3-*/*", "a", '$', 413)
		one(p, "tid6", "mid2", "3-*/*", "b", '$', 200)
		box.wantMail(t, "!"+msrp.ErrExpired.Error(), "bbb")
	})
	inBubble(t, "PartialIdle in mid-chunk", func(t *testing.T) {
		box, _, p := scripted(t, msrp.EndpointConfig{Limits: msrp.Limits{Piece: 10}}, msrp.SessionConfig{})
		p.write(epHead("tid1", "SEND") + "Message-ID: mid1\nByte-Range: 1-*/*\nContent-Type: text/plain\n\n" + strings.Repeat("x", 100))
		time.Sleep(10*time.Minute + time.Second)
		box.wantMail(t, "!"+msrp.ErrExpired.Error())
		p.write("xxxxxxxxxx\n-------tid1$\n")
		p.wantCode("tid1", 413)
	})
	inBubble(t, "PartialIdle, slow chunk and empty chunk", func(t *testing.T) {
		box, _, p := scripted(t, msrp.EndpointConfig{Limits: msrp.Limits{Piece: 10}}, msrp.SessionConfig{})
		p.write(epHead("tid1", "SEND") + "Message-ID: mid1\nByte-Range: 1-*/*\nContent-Type: text/plain\n\n" + strings.Repeat("x", 100))
		for range 3 {
			time.Sleep(9 * time.Minute)
			p.write(strings.Repeat("x", 100))
		}
		time.Sleep(9 * time.Minute)
		p.write("\n-------tid1+\n")
		p.wantCode("tid1", 200)
		for range 2 {
			time.Sleep(9 * time.Minute)
			one(p, "tid2", "mid1", "401-*/*", "", '+', 200)
		}
		one(p, "tid3", "mid1", "401-*/*", "x", '$', 200)
		box.wantMail(t, strings.Repeat("x", 401))
	})
	inBubble(t, "Remembered", func(t *testing.T) {
		box, _, p := scripted(t, msrp.EndpointConfig{Limits: msrp.Limits{Remembered: 2}}, msrp.SessionConfig{})
		for _, id := range []string{"mid1", "mid2", "mid1", "mid3", "mid2", "mid1", "mid3"} {
			one(p, "tid1", id, "1-4/4", id, '$', 200)
		}
		box.wantMail(t, "mid1", "mid2", "mid3", "mid1") // the first one of three was forgotten
	})
}

// CORE-118 in the middle of a chunk: the Sink learns of it.
func TestReceiveConnectionLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, _, p := scripted(t, msrp.EndpointConfig{}, msrp.SessionConfig{})
		p.chunk("tid1", "Message-ID: mid1\nByte-Range: 1-*/*\n", "half", msrp.Continue)
		p.write(epHead("tid2", "SEND") + "Message-ID: mid2\nContent-Type: text/plain\n\nhal")
		p.nc.Close()
		synctest.Wait()
		if got := box.mail(); len(got) != 1 || got[0].err == nil || len(box.closed) != 1 {
			t.Errorf("delivered %v, closed %v", got, box.closed)
		}
	})
}

func TestIncomingFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, _, p := scripted(t, msrp.EndpointConfig{}, msrp.SessionConfig{})
		const way = "msrp://r1.example:1/r1;tcp " + epPeer
		p.write(strings.Replace(epHead("tid1", "SEND"), epPeer, way, 1) +
			"Message-ID: mid1\nSuccess-Report: yes\nByte-Range: 1-*/2\nFailure-Report: partial\n" +
			"Content-Disposition: attachment; filename=x\nContent-Type: text/plain;charset=utf-8\n\nhi\n-------tid1$\n")
		p.want("REPORT")
		synctest.Wait()
		m := box.mail()[0].m
		cd, ok := m.Header("content-disposition")
		if m.MessageID != "mid1" || m.ContentType != "text/plain;charset=utf-8" || m.Size != 2 || !m.Success ||
			m.Failure != msrp.Partial || !ok || cd != "attachment; filename=x" || strings.Join(m.From, " ") != way {
			t.Errorf("%+v", m)
		}
	})
}

func TestBufferBound(t *testing.T) {
	var body []byte
	b := &msrp.Buffer{Then: func(p []byte, err error) error { body = p; return err }}
	if _, err := b.WriteAt([]byte("x"), 1<<20); err == nil {
		t.Error("octet past Max taken")
	}
	for _, w := range []struct {
		s   string
		off int64
	}{{"tail", 9000}, {strings.Repeat("m", 5000), 4000}, {"TAIL", 9000}, {strings.Repeat("h", 4001), 0}} {
		if n, err := b.WriteAt([]byte(w.s), w.off); n != len(w.s) || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := b.Done(nil); err != nil || string(body) != strings.Repeat("h", 4001)+strings.Repeat("m", 4999)+"TAIL" {
		t.Errorf("%v, %d octets", err, len(body))
	}
}
