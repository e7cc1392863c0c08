package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/parley-msrp/parley/host/msrp"
)

// maxFile is the largest file that recv takes, in bytes.
const maxFile = 1 << 40

type sendCmd struct {
	relayFlags
	File    string        `arg:"" help:"The file." type:"existingfile"`
	Peer    string        `help:"The path line that the peer's 'parley recv' shows." required:"" placeholder:"PATH"`
	Timeout time.Duration `help:"Give up when nothing was confirmed for so long after the last octet." default:"2m"`
}

// Run sends one file and waits until every octet is confirmed by a REPORT.
func (cmd *sendCmd) Run(e *env) error {
	f, err := os.Open(cmd.File)
	if err != nil {
		return usageError{err}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return usageError{fmt.Errorf("%s is no regular file", cmd.File)}
	}
	c, err := cmd.dial(e, msrp.Limits{})
	if err != nil {
		return err
	}
	defer c.close()
	to, err := c.to(cmd.Peer)
	if err != nil {
		return err
	}
	s, err := c.endpoint.NewSession(msrp.SessionConfig{Local: c.local, Peer: to, Conn: c.conn, Handler: deaf{}})
	if err != nil {
		return err
	}
	if err := bind(e.ctx, s); err != nil {
		return fmt.Errorf("the peer is not reached: %w", err)
	}
	bar := newBar(e.stderr, info.Size(), "sending")
	sum := sha256.New()
	o, err := s.Send(e.ctx, &msrp.Message{
		ContentType: "application/octet-stream", Size: info.Size(), Body: io.TeeReader(f, sum), Success: true,
		Headers: []string{"Content-Disposition: " + mime.FormatMediaType("attachment", map[string]string{
			"filename": filepath.Base(cmd.File), "size": strconv.FormatInt(info.Size(), 10),
		})},
		Progress: func(sent, _ int64) { bar.set(sent) },
	})
	if err != nil {
		bar.abandon()
		return fmt.Errorf("send %s: %w", cmd.File, err)
	}
	ctx, cancel := context.WithTimeoutCause(e.ctx, cmd.Timeout, fmt.Errorf("not every octet was confirmed within %v", cmd.Timeout))
	defer cancel()
	if err := o.Wait(ctx); err != nil {
		bar.abandon()
		return fmt.Errorf("send %s: %w", cmd.File, err)
	}
	bar.finish()
	fmt.Fprintf(e.stdout, "sent %s: %d bytes, all confirmed\nsha256 %s\n", cmd.File, info.Size(), hex.EncodeToString(sum.Sum(nil)))
	return nil
}

type recvCmd struct {
	relayFlags
	Dir   string `help:"Where to put the file." type:"existingdir" default:"."`
	Force bool   `help:"Overwrite a file of the same name."`
}

// Run receives one file.
func (cmd *recvCmd) Run(e *env) error {
	c, err := cmd.dial(e, msrp.Limits{Message: maxFile})
	if err != nil {
		return err
	}
	defer c.close()
	r := &receiver{cmd: cmd, e: e, result: make(chan error, 1)}
	s, err := c.endpoint.NewSession(msrp.SessionConfig{Local: c.local, MaxSize: maxFile, Handler: r})
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "path: %s\n", c.path())
	fmt.Fprintln(e.stderr, "parley: waiting for 'parley send FILE --peer' with this path …")
	select {
	case err = <-r.result:
	case <-s.Done():
		err = fmt.Errorf("the session ended: %w", s.Err())
		select {
		case done := <-r.result: // both at once: what became of the file counts
			err = done
		default:
		}
	case <-e.ctx.Done():
		err = errors.New("interrupted")
	}
	return err
}

// A receiver takes the first file of a session.
type receiver struct {
	cmd    *recvCmd
	e      *env
	busy   atomic.Bool
	result chan error
}

// Closed implements msrp.SessionHandler.
func (r *receiver) Closed(*msrp.Session, error) {}

// Receive implements msrp.SessionHandler.
func (r *receiver) Receive(_ *msrp.Session, m *msrp.Incoming) (msrp.Sink, msrp.Status) {
	if r.busy.Swap(true) {
		return nil, msrp.Status{Code: 413, Comment: "one file only"}
	}
	disposition, _ := m.Header("Content-Disposition")
	f, err := r.cmd.create(disposition)
	if err != nil {
		r.result <- err
		return nil, msrp.Status{Code: 403, Comment: "cannot store the file"}
	}
	size := m.Size
	if size < 0 {
		size = -1
	}
	return &fileSink{f: f, r: r, sum: sha256.New(), bar: newBar(r.e.stderr, size, "receiving")}, msrp.Status{}
}

// create opens a temporary file beside the one that is to be. The name is the
// peer's wish: only its last element counts, and it overwrites nothing.
func (cmd *recvCmd) create(disposition string) (*os.File, error) {
	name := "received"
	if _, params, err := mime.ParseMediaType(disposition); err == nil && params["filename"] != "" {
		name = filepath.Base(filepath.Clean("/" + strings.ReplaceAll(params["filename"], `\`, "/")))
	}
	name = strings.TrimLeft(printable(name), ".")
	if name == "" || name == "/" || len(name) > 200 {
		name = "received"
	}
	path := filepath.Join(cmd.Dir, name)
	if _, err := os.Lstat(path); err == nil && !cmd.Force {
		return nil, fmt.Errorf("%s is there already (--force overwrites it)", path)
	}
	return os.OpenFile(path+".part", os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
}

// A fileSink writes a message to a file.
type fileSink struct {
	f    *os.File
	r    *receiver
	sum  hash.Hash
	next int64 // octets hashed so far, while they come in order
	end  int64
	bar  *bar
}

// WriteAt implements msrp.Sink.
func (s *fileSink) WriteAt(b []byte, off int64) (int, error) {
	if off == s.next {
		s.sum.Write(b)
		s.next += int64(len(b))
	} else {
		s.next = -1 // out of order: hash the file when it is whole
	}
	s.end = max(s.end, off+int64(len(b)))
	s.bar.set(s.end)
	return s.f.WriteAt(b, off)
}

// Done implements msrp.Sink.
func (s *fileSink) Done(err error) error {
	if err == nil {
		err = s.store()
	}
	if err != nil {
		s.bar.abandon()
		s.f.Close()
		os.Remove(s.f.Name())
		err = fmt.Errorf("file not received: %w", err)
	}
	s.r.result <- err
	return err
}

func (s *fileSink) store() error {
	if s.next != s.end {
		s.sum.Reset()
		if _, err := io.Copy(s.sum, io.NewSectionReader(s.f, 0, s.end)); err != nil {
			return err
		}
	}
	path := strings.TrimSuffix(s.f.Name(), ".part")
	if err := errors.Join(s.f.Truncate(s.end), s.f.Sync(), s.f.Close(), os.Rename(s.f.Name(), path)); err != nil {
		return err
	}
	s.bar.finish()
	fmt.Fprintf(s.r.e.stdout, "received %s: %d bytes\nsha256 %s\n", path, s.end, hex.EncodeToString(s.sum.Sum(nil)))
	return nil
}

// deaf is a session handler that wants no messages.
type deaf struct{}

func (deaf) Receive(*msrp.Session, *msrp.Incoming) (msrp.Sink, msrp.Status) {
	return nil, msrp.Status{Code: 403}
}

func (deaf) Closed(*msrp.Session, error) {}

// A bar shows progress on a terminal, and nothing elsewhere.
type bar struct{ p *progressbar.ProgressBar }

func newBar(w io.Writer, size int64, what string) *bar {
	if !isTerminal(w) {
		return &bar{}
	}
	return &bar{progressbar.NewOptions64(size, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionFullWidth(),
		progressbar.OptionUseANSICodes(true))}
}

// The bar is decoration: that it cannot be drawn is no fault.

func (b *bar) set(n int64) {
	if b.p != nil {
		_ = b.p.Set64(n)
	}
}

func (b *bar) finish() {
	if b.p != nil {
		_ = b.p.Finish()
		fmt.Fprintln(os.Stderr)
	}
}

func (b *bar) abandon() {
	if b.p != nil {
		fmt.Fprintln(os.Stderr)
	}
}
