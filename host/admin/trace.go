package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/parley-msrp/parley/host/trace"
)

// Bounds of /debug/trace.
const (
	maxReaders   = 4
	traceTime    = time.Minute // unless the request says
	maxTraceTime = 24 * time.Hour
	traceWrite   = 10 * time.Second // a reader that takes nothing for so long is cut off
)

// traceQuery reads what a request for frames wants. Its parameters are those of
// [trace.Filter], format (text, json, pcapng) and for.
func traceQuery(r *http.Request) (f trace.Filter, format string, d time.Duration, err error) {
	q := r.URL.Query()
	f = trace.Filter{Session: q.Get("session"), User: q.Get("user"), Listener: q.Get("listener")}
	format, d = "text", traceTime
	for name, values := range q {
		if len(values) != 1 {
			return f, "", 0, fmt.Errorf("%s: give it once", name)
		}
		v := values[0]
		switch name {
		case "session", "user", "listener":
		case "peer":
			if f.Peer, err = trace.ParsePeer(v); err != nil {
				return f, "", 0, fmt.Errorf("peer: %q is neither an address nor a prefix", v)
			}
		case "bodies":
			if f.Bodies, err = strconv.ParseBool(v); err != nil {
				return f, "", 0, fmt.Errorf("bodies: %q is neither true nor false", v)
			}
		case "format":
			if v != "text" && v != "json" && v != "pcapng" {
				return f, "", 0, fmt.Errorf("format: %q is none of text, json and pcapng", v)
			}
			format = v
		case "for":
			if d, err = time.ParseDuration(v); err != nil || d <= 0 || d > maxTraceTime {
				return f, "", 0, fmt.Errorf("for: %q is no time such as 30s, and up to 24h", v)
			}
		default:
			return f, "", 0, fmt.Errorf("%s: there are session, user, listener, peer, bodies, format and for", name)
		}
	}
	return f, format, d, nil
}

// trace writes frames as they come.
func (s *Server) trace(w http.ResponseWriter, r *http.Request) {
	filter, format, d, err := traceQuery(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if s.readers.Add(1) > maxReaders {
		s.readers.Add(-1)
		http.Error(w, fmt.Sprintf("there are %d readers already", maxReaders), http.StatusServiceUnavailable)
		return
	}
	defer s.readers.Add(-1)
	ctx, cancel := context.WithTimeout(r.Context(), d)
	defer cancel()
	sub := s.cfg.Relay.Trace(filter)
	defer sub.Close()
	s.cfg.Log.Info("an operator looks at frames", "remote", r.RemoteAddr, "user", filter.User, "listener", filter.Listener, "bodies", filter.Bodies, "format", format)
	out := patient{w, http.NewResponseController(w)}
	var write func(*trace.Frame) error
	switch format {
	case "text":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		write = trace.Text(out)
	case "json":
		w.Header().Set("Content-Type", "application/x-ndjson")
		write = trace.JSON(out)
	default:
		w.Header().Set("Content-Type", "application/x-pcapng")
		c, err := trace.NewCapture(out)
		if err != nil {
			return // the reader is gone
		}
		write = c.Write
	}
	if err := out.flush(); err != nil {
		return
	}
	err = sub.Each(ctx, func(f *trace.Frame) error {
		if err := write(f); err != nil || sub.Waiting() {
			return err
		}
		return out.flush()
	})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		s.cfg.Log.Debug("a reader of frames has ended", "err", err)
	}
}

// A patient writer gives the reader some time, not more.
type patient struct {
	io.Writer
	rc *http.ResponseController
}

func (p patient) Write(b []byte) (int, error) {
	_ = p.rc.SetWriteDeadline(time.Now().Add(traceWrite)) // in tests there is none
	return p.Writer.Write(b)
}

func (p patient) flush() error {
	if err := p.rc.Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
