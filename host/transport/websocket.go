package transport

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// A WebSocketConfig says how WebSockets are accepted and kept (RFC 6455).
type WebSocketConfig struct {
	// Protocol is the sub-protocol, in lower case, that a peer must offer. It has
	// no default.
	Protocol string
	// Path is the only one that is served. Default: any.
	Path string
	// Origins are the pages that may connect from a browser: each one origin,
	// such as https://app.example.com, all subdomains of one, as
	// https://*.example.com, or * for any. Default: none. Who sends no Origin is
	// no browser, and is not asked.
	Origins []string
	// Header is how long the HTTP request may be, in bytes. Default 16 KiB.
	Header int
	// Message is the largest message that is received, in bytes; a larger one
	// ends the connection with close code 1009. Default 1 MiB.
	Message int64
	// Ping is how often the peer is asked for a sign of life. If none came
	// after two of them, the connection ends. Zero = 30 s, negative = never.
	Ping time.Duration
	// CloseCode tells the peer why the connection ends: a close code (RFC 6455
	// §7.4) and a text of up to 123 bytes. Default: 1000.
	CloseCode func(error) (code int, text string)
	// Authorize decides on a request that is right in all else, before it is
	// answered. Default: all are accepted.
	Authorize func(ctx context.Context, rq *http.Request) *Refusal
}

// A Refusal is the answer to an HTTP request that is not accepted.
type Refusal struct {
	Status int    // 400 to 599
	Reason string // one line
}

func (r *Refusal) Error() string { return fmt.Sprintf("%d %s", r.Status, r.Reason) }

var (
	// ErrWebSocket: the peer broke the rules of RFC 6455.
	ErrWebSocket = errors.New("not a WebSocket")
	// ErrNoPong: the peer gave no sign of life.
	ErrNoPong = errors.New("two pings without an answer")
)

// A WebSocket is a network connection that carries messages: NextMessage waits
// for one, Read returns its octets and io.EOF at its end, and each Write is
// one, unless Messages says otherwise. Text messages are octets, as binary ones
// are (RFC 7977 §4.2, WS-13); what is written is binary.
//
// One goroutine may read while another writes. Pings are answered, and a close
// frame is seen, while NextMessage or Read waits. An idle WebSocket keeps 2 KiB to
// read into, a timer, and no goroutine.
type WebSocket struct {
	// Set before it is used, then read-only.
	raw    net.Conn
	ws     *websocket.Conn // reads, unmasks, and answers control frames
	client bool
	cfg    WebSocketConfig

	// Owned by who reads.
	msg    io.Reader
	rawErr error // of raw, which the library does not tell from its own

	open    atomic.Bool // the handshake is over
	reading atomic.Bool
	heard   atomic.Bool // since the last ping
	dead    atomic.Bool // it was not heard for too long
	limit   atomic.Pointer[time.Time]

	out    turn  // held to write to raw; guards what follows
	sizes  []int // of messages, from next on those that have not begun
	next   int
	left   int     // octets to come of the message that was begun
	mask   [4]byte // of it
	masked int
	broken bool // a message was cut: nothing can follow

	mu      sync.Mutex // guards what follows; never held across I/O
	control []byte     // a frame that waits for the message in hand
	closing bool       // a close frame was queued: nothing follows it
	closed  bool
	why     error
	timer   *time.Timer
}

// A turn is a lock that can be waited for a while.
type turn chan struct{}

func (t turn) take() { t <- struct{}{} }

func (t turn) give() { <-t }

// tryTake reports whether it has taken t within d.
func (t turn) tryTake(d time.Duration) bool {
	select {
	case t <- struct{}{}:
		return true
	default:
	}
	if d <= 0 {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case t <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

const (
	opBinary, opClose, opPing = 2, 8, 9

	// readBuffer holds headers of frames; octets of messages pass it by.
	readBuffer = 2 << 10
	// maxControl is the longest control frame: header, mask and 125 octets.
	maxControl = 2 + 4 + 125
	// maxRead is how much of a message is waited for at once.
	maxRead = 16 << 10
	// controlTime is how long a peer that reads nothing may hold up a ping or pong.
	controlTime = 10 * time.Second
	// closeTime is how long a peer has to take a close frame, and to close.
	closeTime = time.Second
	// lingerSize is how much a peer may still send then.
	lingerSize = 1 << 20
)

func newWebSocket(nc net.Conn, cfg WebSocketConfig) *WebSocket {
	return &WebSocket{raw: nc, cfg: cfg, out: make(turn, 1), control: make([]byte, 0, maxControl)}
}

// opened ends the handshake.
func (w *WebSocket) opened(ws *websocket.Conn) {
	w.ws = ws
	ws.SetReadLimit(orDefault(w.cfg.Message, 1<<20)) // WS-17
	w.heard.Store(true)
	w.open.Store(true)
	if d := w.ping(); d > 0 {
		w.mu.Lock()
		w.timer = time.AfterFunc(d, func() { w.tick(0) })
		w.mu.Unlock()
	}
}

func (w *WebSocket) ping() time.Duration { return orDefault(w.cfg.Ping, 30*time.Second) }

// NextMessage waits for the next message. It returns io.EOF when the peer has
// closed the connection.
func (w *WebSocket) NextMessage() error {
	w.reading.Store(true)
	defer w.reading.Store(false)
	_, msg, err := w.ws.Reader(context.Background())
	if err != nil {
		return w.readError(err, io.EOF)
	}
	w.msg = msg
	return nil
}

// Read reads the message in hand.
func (w *WebSocket) Read(b []byte) (int, error) {
	if w.msg == nil {
		return 0, io.EOF
	}
	w.reading.Store(true)
	defer w.reading.Store(false)
	n, err := w.msg.Read(b[:min(len(b), maxRead)])
	switch {
	case err == nil:
	case err == io.EOF && w.rawErr == nil:
		w.msg = nil // its end
	default:
		err = w.readError(err, io.ErrUnexpectedEOF)
	}
	return n, err
}

// readError says what an error of the library is; closed is what stands for the
// end of the connection.
func (w *WebSocket) readError(err, closed error) error {
	switch {
	case w.dead.Load():
		return ErrNoPong
	case websocket.CloseStatus(err) != -1, w.rawErr == io.EOF:
		return closed
	case w.rawErr != nil:
		return w.rawErr
	case errors.Is(err, net.ErrClosed):
		return err
	case errors.Is(err, websocket.ErrMessageTooBig):
		return fmt.Errorf("message of more than %d bytes", orDefault(w.cfg.Message, 1<<20))
	}
	return fmt.Errorf("%w: %w", ErrWebSocket, err)
}

// Messages says how long the messages are that are written from now on.
func (w *WebSocket) Messages(sizes []int) {
	w.out.take()
	w.sizes, w.next = append(w.sizes[:0], sizes...), 0
	w.out.give()
}

// gatherSize leaves room for the headers of many small messages beside 16 KiB
// of their octets, which become one write and one or two TLS records.
const gatherSize = 20 << 10

var gathers = sync.Pool{New: func() any { return new([gatherSize]byte) }}

// Write writes one message, or what Messages said.
func (w *WebSocket) Write(b []byte) (int, error) {
	w.out.take()
	err := w.write(b)
	w.broken = w.broken || err != nil
	if err2 := w.release(); err == nil {
		err = err2
	}
	if err != nil {
		return 0, err // what was written of b says nothing about its messages
	}
	return len(b), nil
}

// write is Write with out held.
func (w *WebSocket) write(b []byte) error {
	if w.broken || w.left == 0 && w.isClosing() {
		return net.ErrClosed
	}
	mem := gathers.Get().(*[gatherSize]byte)
	defer gathers.Put(mem)
	o := mem[:0]
	for len(b) > 0 {
		if cap(o)-len(o) <= maxControl {
			if err := w.flush(o); err != nil {
				return err
			}
			o = mem[:0]
		}
		if w.left == 0 {
			o = w.begin(o, len(b))
		}
		n := min(len(b), w.left, cap(o)-len(o))
		o = append(o, b[:n]...)
		w.cover(o[len(o)-n:])
		b, w.left = b[n:], w.left-n
	}
	return w.flush(o)
}

// begin appends the header of the next message; all octets are its if nobody
// said how many. out is held.
func (w *WebSocket) begin(o []byte, all int) []byte {
	w.left = all
	if w.next < len(w.sizes) {
		w.left = w.sizes[w.next]
		if w.next++; w.next == len(w.sizes) && cap(w.sizes) > 64 {
			w.sizes = nil // a burst was an exception
		}
	}
	if w.client {
		_, _ = rand.Read(w.mask[:]) // never fails
		w.masked = 0
	}
	return appendFrame(o, opBinary, w.left, w.client, w.mask)
}

// appendFrame appends the header of a frame that is a whole message of n octets
// (RFC 6455 §5.2).
func appendFrame(o []byte, op byte, n int, masked bool, mask [4]byte) []byte {
	var m byte
	if masked {
		m = 0x80
	}
	o = append(o, 0x80|op)
	switch {
	case n < 126:
		o = append(o, m|byte(n))
	case n < 1<<16:
		o = binary.BigEndian.AppendUint16(append(o, m|126), uint16(n))
	default:
		o = binary.BigEndian.AppendUint64(append(o, m|127), uint64(n))
	}
	if masked {
		o = append(o, mask[:]...)
	}
	return o
}

// cover masks what a client sends (RFC 6455 §5.3, WS-18). out is held.
func (w *WebSocket) cover(b []byte) {
	if !w.client {
		return
	}
	var key [256]byte
	for i := range key[:min(len(key), len(b))] {
		key[i] = w.mask[(w.masked+i)&3]
	}
	w.masked += len(b)
	for len(b) > 0 {
		b = b[subtle.XORBytes(b, b, key[:]):]
	}
}

// flush writes to the network. out is held.
func (w *WebSocket) flush(o []byte) error {
	if len(o) == 0 {
		return nil
	}
	// The deadline is set here, not by SetWriteDeadline: pings have their own.
	var limit time.Time
	if t := w.limit.Load(); t != nil {
		limit = *t
	}
	_ = w.raw.SetWriteDeadline(limit) // if it cannot be set, the write says it better
	_, err := w.raw.Write(o)
	return err
}

// release gives out back. A control frame that came meanwhile goes first, unless
// a message is begun, for then its writer comes again.
func (w *WebSocket) release() error {
	for {
		var err error
		if w.left == 0 && !w.broken {
			err = w.flushControl()
			w.broken = err != nil
		}
		again := err == nil && w.left == 0 && !w.broken
		w.out.give()
		w.mu.Lock()
		again = again && len(w.control) > 0
		w.mu.Unlock()
		if !again || !w.out.tryTake(0) {
			return err
		}
	}
}

// flushControl writes the control frame that waits. out is held.
func (w *WebSocket) flushControl() error {
	var mem [maxControl]byte
	w.mu.Lock()
	frame := append(mem[:0], w.control...)
	w.control = w.control[:0]
	limit := time.Now().Add(controlTime)
	if w.closed {
		limit = time.Now().Add(closeTime)
	}
	w.mu.Unlock()
	if len(frame) == 0 {
		return nil
	}
	_ = w.raw.SetWriteDeadline(limit) // as in flush
	_, err := w.raw.Write(frame)
	return err
}

// sendControl sends a control frame once the message in hand is written. Of
// several that wait the last one counts (RFC 6455 §5.5.3), and nothing follows
// a close frame.
func (w *WebSocket) sendControl(frame []byte) error {
	if len(frame) > maxControl {
		return errors.New("control frame too long")
	}
	op := frame[0] & 0xf
	w.mu.Lock()
	if w.closing || op == opPing && len(w.control) > 0 {
		w.mu.Unlock()
		return nil
	}
	w.closing = op == opClose
	w.control = append(w.control[:0], frame...)
	w.mu.Unlock()
	if !w.out.tryTake(0) {
		return nil // who holds it sends it
	}
	return w.release()
}

func (w *WebSocket) isClosing() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closing
}

// tick pings the peer (RFC 7977 §6, WS-43), or ends the connection when two
// pings had no answer (WS-45).
func (w *WebSocket) tick(missed int) {
	if missed++; w.heard.Swap(false) {
		missed = 0
	}
	if missed >= 2 {
		w.dead.Store(true)
		_ = w.raw.SetReadDeadline(time.Unix(1, 0)) // so that who reads learns of it
		return
	}
	w.mu.Lock()
	if !w.closing && !w.closed {
		w.timer = time.AfterFunc(w.ping(), func() { w.tick(missed) })
	}
	w.mu.Unlock()
	_ = w.sendControl(w.controlFrame(opPing, nil)) // who reads or writes sees the error
}

// controlFrame returns a control frame.
func (w *WebSocket) controlFrame(op byte, payload []byte) []byte {
	var mask [4]byte
	if w.client {
		_, _ = rand.Read(mask[:]) // never fails
	}
	frame := appendFrame(make([]byte, 0, maxControl), op, len(payload), w.client, mask)
	for i, c := range payload {
		frame = append(frame, c^mask[i&3])
	}
	return frame
}

// CloseReason says why the connection is going to be closed; see
// WebSocketConfig.CloseCode.
func (w *WebSocket) CloseReason(err error) {
	w.mu.Lock()
	w.why = err
	w.mu.Unlock()
}

// CloseWrite sends a close frame, after which nothing is written. The peer is to
// answer it, which ends NextMessage with io.EOF.
func (w *WebSocket) CloseWrite() error {
	w.mu.Lock()
	why := w.why
	w.mu.Unlock()
	code, text := 1000, ""
	if w.cfg.CloseCode != nil {
		code, text = w.cfg.CloseCode(why)
	}
	payload := binary.BigEndian.AppendUint16(nil, uint16(code))
	return w.sendControl(w.controlFrame(opClose, append(payload, text[:min(len(text), 123)]...)))
}

// Close sends a close frame, unless one was sent, and closes the connection. If nobody
// reads from it, a peer has a second to take what is being written, and another to take the
// frame, so that what it still sends does not take it away.
func (w *WebSocket) Close() error {
	w.mu.Lock()
	was := w.closed
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	_ = w.raw.SetWriteDeadline(time.Now().Add(closeTime)) // as in flush
	if was {
		return net.ErrClosed
	}
	if err := w.CloseWrite(); err == nil && !w.reading.Load() {
		if w.out.tryTake(closeTime) && w.release() == nil {
			linger(w.raw)
		}
	}
	return w.ws.CloseNow()
}

// linger lets the peer of nc read what was written last: a connection closed
// while the peer sends is reset, and what it had not read yet is lost.
func linger(nc net.Conn) {
	half, ok := nc.(interface{ CloseWrite() error })
	if ok && half.CloseWrite() == nil && nc.SetReadDeadline(time.Now().Add(closeTime)) == nil {
		_, _ = io.CopyN(io.Discard, nc, lingerSize)
	}
}

// LocalAddr implements net.Conn.
func (w *WebSocket) LocalAddr() net.Addr { return w.raw.LocalAddr() }

// RemoteAddr implements net.Conn.
func (w *WebSocket) RemoteAddr() net.Addr { return w.raw.RemoteAddr() }

// SetDeadline implements net.Conn.
func (w *WebSocket) SetDeadline(t time.Time) error {
	w.limit.Store(&t)
	return w.raw.SetReadDeadline(t)
}

// SetReadDeadline implements net.Conn. A message cannot be read on after it has passed.
func (w *WebSocket) SetReadDeadline(t time.Time) error { return w.raw.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn. It counts for the writes that begin after it.
func (w *WebSocket) SetWriteDeadline(t time.Time) error {
	w.limit.Store(&t)
	return nil
}

// A side is the connection as the library sees it: it reads all octets, and what
// it writes after the handshake is control frames.
type side struct {
	net.Conn
	w *WebSocket
}

func (s side) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if n > 0 {
		s.w.heard.Store(true)
	}
	if err != nil {
		s.w.rawErr = err
	}
	return n, err
}

func (s side) Write(b []byte) (int, error) {
	if !s.w.open.Load() {
		return s.Conn.Write(b)
	}
	return len(b), s.w.sendControl(b)
}

// controlBuffer holds one control frame, so that each is one Write of a side.
const controlBuffer = 256

// hijack returns what the library reads from and writes to.
func (w *WebSocket) hijack() (net.Conn, *bufio.ReadWriter) {
	s := side{w.raw, w}
	return s, bufio.NewReadWriter(bufio.NewReaderSize(s, readBuffer), bufio.NewWriterSize(s, controlBuffer))
}
