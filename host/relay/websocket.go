package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/host/msrp"
	"github.com/parley-msrp/parley/host/transport"
)

// A WebSocket says how a listener takes WebSockets (RFC 7977). In each field 0
// means the default; see transport.WebSocketConfig for what is not said here.
type WebSocket struct {
	Path    string
	Origins []string
	Header  int           // bytes of the HTTP request; default 16 KiB
	Message int64         // bytes of a message that is received; default 1 MiB
	Ping    time.Duration // default 30 s; negative = never
	// Chunk is how many bytes of a body one message to the peer carries; longer
	// chunks are split (RFC 7977 §5.1, WS-14). Default 16 KiB.
	Chunk int
	// Proxies are the addresses of proxies that do TLS for this listener; then
	// it takes connections from them only, believes the last address of their
	// X-Forwarded-For, and counts as secure. Default: none.
	Proxies []netip.Prefix
}

// isWebSocket: there is no transport "wss"; the scheme tells (RFC 7977 §5.2.1,
// WS-20, WS-21).
func (l *Listener) isWebSocket() bool { return strings.EqualFold(l.URI.Transport, "ws") }

// shown returns the listener whose URI clients of l get.
func (r *Relay) shown(l *Listener) *Listener {
	if shown := r.cfg().listeners[r.cfg().rules(l).Advertise]; shown != nil {
		return shown
	}
	return l
}

// upgrade makes a WebSocket of nc, if its handshake is accepted.
func (c *conn) upgrade(ctx context.Context, nc net.Conn) (net.Conn, error) {
	cfg := &c.l.WebSocket
	ws, err := transport.AcceptWebSocket(ctx, nc, transport.WebSocketConfig{
		Protocol: "msrp", // RFC 7977 §10 (WS-3)
		Path:     cfg.Path, Origins: cfg.Origins, Header: cfg.Header, Message: cfg.Message, Ping: cfg.Ping,
		CloseCode: closeCode, Authorize: c.authorize,
	})
	if err != nil {
		c.count(refusedHandshake)
		return nil, fmt.Errorf("%w: %w", errHandshake, err)
	}
	return ws, nil
}

// proxied: the address of the connection is a proxy's, not the client's.
func (c *conn) proxied() bool {
	return slices.ContainsFunc(c.l.WebSocket.Proxies, func(p netip.Prefix) bool { return p.Contains(c.remote.Addr()) })
}

// authorize judges the HTTP request of a WebSocket (RFC 7977 §7, WS-8).
func (c *conn) authorize(ctx context.Context, rq *http.Request) *transport.Refusal {
	if len(c.l.WebSocket.Proxies) > 0 {
		if !c.proxied() {
			return &transport.Refusal{Status: 403, Reason: "not by way of the proxy"}
		}
		c.secure = true
		if addr, err := netip.ParseAddr(forwardedFor(rq)); err == nil {
			c.remote = netip.AddrPortFrom(addr.Unmap(), 0)
		}
		if err := c.admit(); err != nil {
			return &transport.Refusal{Status: 403, Reason: err.Error()}
		}
	}
	cookie, token := strings.Join(rq.Header["Cookie"], "; "), bearer(rq)
	chain := c.l.Hooks.Authenticate
	if cookie == "" && token == "" || !chain.Has() || !c.secure && !c.l.PlainAuth {
		return nil // the Digests of AUTHs will tell
	}
	// RFC 7977 §5.3.1 (WS-36): the second of the three ways.
	reply := chain.Run(ctx, &hook.AuthRequest{
		Listener: c.l.Name, Transport: c.transport(), LocalAddr: c.local, RemoteAddr: c.remote, SNI: c.sni, ClientCN: c.client,
		URI: rq.URL.RequestURI(), Method: "GET", Cookie: cookie, Bearer: token, Origin: rq.Header.Get("Origin"),
	})
	switch reply.Verdict {
	case hook.Deny:
		c.count(refusedHook)
		if !reply.Failed { // a cookie or token that is none: a guess, as a wrong password is
			c.delay(ctx, c.accuse(false).Delay)
		}
		reason := reply.Reason
		if reason == "" {
			reason = "not you"
		}
		return &transport.Refusal{Status: 403, Reason: reason}
	case hook.Done:
		c.identity = &reply
	}
	return nil
}

// delay holds a refusal back for d, or until the time for the handshake is over.
func (c *conn) delay(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	c.count(delayedAuth)
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// forwardedFor returns the address that the proxy next to us has added.
func forwardedFor(rq *http.Request) string {
	lines := rq.Header["X-Forwarded-For"]
	if len(lines) == 0 {
		return ""
	}
	last := lines[len(lines)-1]
	return strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
}

// bearer returns the token of a request. A page can add no header to its
// handshake; it has the query for it (RFC 6750 §2.3).
func bearer(rq *http.Request) string {
	scheme, token, _ := strings.Cut(rq.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(token)
	}
	return rq.URL.Query().Get("access_token")
}

// isIdentity reports whether an AUTH is for the user whom the handshake named.
// It names one only if its To-Path does (RFC 7977 §8.1.1, WS-38, WS-41).
func (c *conn) isIdentity(h *msrp.Head) bool {
	u, err := msrp.ParseURI(string(h.To.First()))
	if err != nil || u.User == "" || u.User == c.identity.Username {
		return err == nil
	}
	name, err := url.PathUnescape(u.User)
	return err == nil && name == c.identity.Username
}

// closeCode says to the peer of a WebSocket why it ends (WS-46).
func closeCode(why error) (code int, text string) {
	rule, fault := msrp.IsPeerFault(why)
	switch {
	case why == nil, why == io.EOF, errors.Is(why, msrp.ErrClosed):
		return 1000, ""
	case errors.Is(why, errIdle):
		return 1000, why.Error()
	case errors.Is(why, errStopped):
		return 1001, why.Error()
	case errors.Is(why, msrp.ErrHeadTooLarge), errors.Is(why, msrp.ErrBodyTooLarge):
		return 1009, rule
	case fault:
		return 1002, "not MSRP: " + rule
	case errors.Is(why, transport.ErrWebSocket):
		return 1002, ""
	case errors.Is(why, errForeign), errors.Is(why, errPath), errors.Is(why, errProbation), errors.Is(why, errFailures), errors.Is(why, errBanned), errors.Is(why, errSlow):
		return 1008, why.Error()
	}
	return 1011, ""
}
