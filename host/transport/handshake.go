package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// AcceptWebSocket reads the HTTP request of a peer and makes a WebSocket of nc,
// within ctx (RFC 6455 §4.2). What it does not accept it answers with an error,
// as a *Refusal says that it returns; nc is then of no more use but to be closed.
func AcceptWebSocket(ctx context.Context, nc net.Conn, cfg WebSocketConfig) (*WebSocket, error) {
	if t, ok := ctx.Deadline(); ok {
		_ = nc.SetDeadline(t) // if it cannot be set, the read says it better
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	u := upgrade{w: newWebSocket(nc, cfg), header: http.Header{}}
	ws, err := u.accept(ctx)
	switch {
	case err == nil && !stop():
		err = context.Cause(ctx)
	case err == nil:
		err = nc.SetDeadline(time.Time{})
	}
	if err != nil {
		if ws != nil {
			_ = ws.CloseNow() // err says it better
		}
		return nil, fmt.Errorf("websocket handshake: %w", err)
	}
	u.w.opened(ws)
	return u.w, nil
}

// An upgrade is one HTTP request, and the library's way to answer it.
type upgrade struct {
	w      *WebSocket
	header http.Header // of the answer
	status int         // of the answer; 0 = not yet known
	body   bytes.Buffer
	early  []byte // octets that came behind the request
}

func (u *upgrade) accept(ctx context.Context) (*websocket.Conn, error) {
	limited := &io.LimitedReader{R: u.w.raw, N: int64(orDefault(u.w.cfg.Header, 16<<10))}
	br := bufio.NewReaderSize(limited, readBuffer)
	rq, err := http.ReadRequest(br)
	switch {
	case err != nil && limited.N == 0:
		return nil, u.refuse(&Refusal{http.StatusRequestHeaderFieldsTooLarge, "request too long"})
	case err == io.EOF:
		return nil, err
	case err != nil && isNetwork(err):
		return nil, err
	case err != nil:
		return nil, u.refuse(&Refusal{http.StatusBadRequest, "malformed request"})
	}
	if u.early, err = br.Peek(br.Buffered()); err != nil {
		return nil, err
	}
	if no := u.judge(ctx, rq); no != nil {
		return nil, u.refuse(no)
	}
	if origin := rq.Header.Get("Origin"); origin != "" {
		u.header.Set("Access-Control-Allow-Origin", origin) // RFC 7977 §7 (WS-9)
	}
	u.header.Set("Sec-WebSocket-Protocol", u.w.cfg.Protocol) // RFC 7977 §4.1 (WS-1)
	ws, err := websocket.Accept(u, rq, &websocket.AcceptOptions{
		InsecureSkipVerify: true,                          // Origin was judged
		CompressionMode:    websocket.CompressionDisabled, // WS-19: it costs memory, and mixes secrets with what others send
	})
	if err != nil && u.status != http.StatusSwitchingProtocols {
		return nil, u.refuse(&Refusal{u.status, strings.TrimSpace(u.body.String())})
	}
	return ws, err
}

// isNetwork reports whether an error of http.ReadRequest is of the connection.
func isNetwork(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrUnexpectedEOF)
}

// judge says what the library does not: it checks what makes a request one for a
// WebSocket at all (WS-6).
func (u *upgrade) judge(ctx context.Context, rq *http.Request) *Refusal {
	cfg := &u.w.cfg
	if rq.Header.Get("Sec-WebSocket-Key") == "" {
		return nil // the library refuses it, and says best why
	}
	switch {
	case rq.Host == "" || rq.ContentLength != 0 || len(rq.TransferEncoding) > 0:
		return &Refusal{http.StatusBadRequest, "no handshake has a body, or lacks Host"}
	case cfg.Path != "" && rq.URL.Path != cfg.Path:
		return &Refusal{http.StatusNotFound, "no WebSocket here"}
	case !offers(rq, cfg.Protocol):
		return &Refusal{http.StatusBadRequest, "Sec-WebSocket-Protocol must offer " + cfg.Protocol} // WS-4
	case !cfg.allows(rq.Header["Origin"]):
		return &Refusal{http.StatusForbidden, "this Origin may not connect"} // WS-9
	case cfg.Authorize != nil:
		return cfg.Authorize(ctx, rq)
	}
	return nil
}

func offers(rq *http.Request, protocol string) bool {
	for _, line := range rq.Header["Sec-Websocket-Protocol"] {
		for name := range strings.SplitSeq(line, ",") {
			if strings.TrimSpace(name) == protocol {
				return true
			}
		}
	}
	return false
}

// allows reports whether a page of these origins may connect.
func (c *WebSocketConfig) allows(origins []string) bool {
	switch len(origins) {
	case 0:
		return true
	case 1:
		return slices.ContainsFunc(c.Origins, func(rule string) bool { return originMatches(rule, origins[0]) })
	}
	return false
}

func originMatches(rule, origin string) bool {
	rule, origin = strings.ToLower(rule), strings.ToLower(origin)
	before, after, wild := strings.Cut(rule, "*.")
	if rule == "*" || !wild {
		return rule == "*" || rule == origin
	}
	sub, ok := strings.CutPrefix(origin, before)
	if !ok {
		return false
	}
	sub, ok = strings.CutSuffix(sub, "."+after)
	return ok && sub != "" && !strings.ContainsAny(sub, "/:@")
}

// refuse answers with an error and returns it.
func (u *upgrade) refuse(no *Refusal) error {
	body := no.Reason + "\n"
	u.header.Set("Content-Type", "text/plain; charset=utf-8")
	u.header.Set("Content-Length", fmt.Sprint(len(body)))
	u.header.Set("Connection", "close")
	u.header.Set("Sec-WebSocket-Version", "13") // RFC 6455 §4.2.2 (WS-6)
	u.header.Del("Access-Control-Allow-Origin")
	u.header.Del("Sec-WebSocket-Protocol")
	if no.Status == http.StatusUpgradeRequired {
		u.header.Set("Connection", "close, Upgrade") // RFC 9110 §15.5.22
	}
	if err := u.answer(no.Status, body); err != nil {
		return errors.Join(no, err)
	}
	linger(u.w.raw)
	return no
}

func (u *upgrade) answer(status int, body string) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	_ = u.header.Write(&b) // a buffer takes all
	b.WriteString("\r\n" + body)
	_, err := u.w.raw.Write(b.Bytes())
	return err
}

// Header implements http.ResponseWriter.
func (u *upgrade) Header() http.Header { return u.header }

// WriteHeader implements http.ResponseWriter. The answer is written later.
func (u *upgrade) WriteHeader(status int) { u.status = status }

// Write implements http.ResponseWriter.
func (u *upgrade) Write(b []byte) (int, error) { return u.body.Write(b) }

// Hijack implements http.Hijacker. The library calls it once it has accepted.
func (u *upgrade) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if err := u.answer(u.status, ""); err != nil {
		return nil, nil, err
	}
	nc, rw := u.w.hijack()
	// What came early stands in the new reader's buffer, where the library looks for it.
	rw.Reader.Reset(io.MultiReader(bytes.NewReader(u.early), nc))
	_, _ = rw.Reader.Peek(len(u.early)) // there are no more than its buffer holds
	return nc, rw, nil
}

// ConnectWebSocket makes a WebSocket of nc from the side of a client, within
// ctx: it sends the request for path at host, with further header lines if
// header is not nil. Of cfg it uses Protocol, Message, Ping and CloseCode.
func ConnectWebSocket(ctx context.Context, nc net.Conn, host, path string, header http.Header, cfg WebSocketConfig) (*WebSocket, error) {
	w := newWebSocket(nc, cfg)
	w.client = true
	used := false
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		if used {
			return nil, errors.New("the connection is used up")
		}
		used = true
		return side{nc, w}, nil
	}}
	// The scheme is that of what is left to do: TLS, if any, is there.
	ws, _, err := websocket.Dial(ctx, "ws://"+host+path, &websocket.DialOptions{
		HTTPClient: &http.Client{
			Transport:     tr,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		HTTPHeader: header, Subprotocols: []string{cfg.Protocol},
	})
	if err == nil && ws.Subprotocol() != cfg.Protocol {
		_ = ws.CloseNow() // RFC 6455 §4.1
		err = fmt.Errorf("the server does not speak %s", cfg.Protocol)
	}
	if err != nil {
		tr.CloseIdleConnections()
		_ = nc.Close() // the error says it better
		return nil, fmt.Errorf("websocket handshake: %w", err)
	}
	w.opened(ws)
	return w, nil
}
