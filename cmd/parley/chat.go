package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-isatty"

	"github.com/parley-msrp/parley/host/msrp"
)

type chatCmd struct {
	relayFlags
	Peer string `help:"The peer's path line. Without it: wait for the peer to write first." placeholder:"PATH"`
}

// maxLine is the longest line that is sent or shown as one message, in bytes.
const maxLine = 1 << 20

// Run chats until the input, the session or the process ends.
func (cmd *chatCmd) Run(e *env) error {
	c, err := cmd.dial(e, msrp.Limits{Message: maxLine})
	if err != nil {
		return err
	}
	defer c.close()
	show := &screen{out: e.stdout, tty: isTerminal(e.stdin) && isTerminal(e.stdout)}
	cfg := msrp.SessionConfig{
		Local: c.local, AcceptTypes: []string{"text/plain"}, MaxSize: maxLine, Handler: show,
	}
	if cmd.Peer != "" {
		if cfg.Peer, err = c.to(cmd.Peer); err != nil {
			return err
		}
		cfg.Conn = c.conn
	}
	s, err := c.endpoint.NewSession(cfg)
	if err != nil {
		return err
	}
	// The path goes to standard output, where a script finds it; the rest is for people.
	fmt.Fprintf(e.stdout, "path: %s\n", c.path())
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	if cmd.Peer != "" {
		if err := bind(ctx, s); err != nil {
			return fmt.Errorf("the peer is not reached: %w", err)
		}
		show.note(e.stderr, "connected; write, and end with Ctrl-D")
	} else {
		show.note(e.stderr, "waiting for a peer that starts with --peer and this path …")
	}
	return cmd.talk(ctx, e, s, show)
}

// bind tells the peer which session the connection is for (RFC 4975 §5.4).
func bind(ctx context.Context, s *msrp.Session) error {
	ctx, cancel := context.WithTimeout(ctx, 35*time.Second)
	defer cancel()
	return s.Bind(ctx)
}

// talk sends each line of the input.
func (cmd *chatCmd) talk(ctx context.Context, e *env, s *msrp.Session, show *screen) error {
	lines := readLines(ctx, e.stdin)
	select {
	case <-s.Bound():
		if cmd.Peer == "" {
			show.note(e.stderr, "the peer is here; write, and end with Ctrl-D")
		}
	case <-s.Done():
		return fmt.Errorf("the session ended: %w", s.Err())
	case <-ctx.Done():
		return nil
	}
	var failed error
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return failed
			}
			if err := say(ctx, s, line); err != nil {
				failed = fmt.Errorf("not delivered: %w", err)
				fmt.Fprintf(e.stderr, "not delivered: %q: %v\n", line, err)
			}
		case <-s.Done():
			if errors.Is(s.Err(), io.EOF) {
				return errors.New("the relay closed the connection")
			}
			return fmt.Errorf("the session ended: %w", s.Err())
		case <-ctx.Done():
			return failed
		}
	}
}

// say sends one message and waits until the peer's side has confirmed it.
func say(ctx context.Context, s *msrp.Session, line string) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	o, err := s.Send(ctx, &msrp.Message{
		ContentType: "text/plain; charset=utf-8", Body: strings.NewReader(line), Success: true,
	})
	if err != nil {
		return err
	}
	return o.Wait(ctx)
}

// readLines reads in until it ends. Its goroutine outlives ctx if a read does
// not return, which nothing can make it do.
func readLines(ctx context.Context, in io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		sc := bufio.NewScanner(in)
		sc.Buffer(nil, maxLine)
		for sc.Scan() {
			if sc.Text() == "" {
				continue
			}
			select {
			case lines <- sc.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}

func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

// A screen shows what the peer writes.
type screen struct {
	out io.Writer
	tty bool
}

func (v *screen) note(w io.Writer, text string) { fmt.Fprintln(w, "parley:", text) }

// Receive implements msrp.SessionHandler.
func (v *screen) Receive(_ *msrp.Session, m *msrp.Incoming) (msrp.Sink, msrp.Status) {
	return &msrp.Buffer{Max: maxLine, Then: func(text []byte, err error) error {
		if err != nil {
			return err
		}
		prefix := ""
		if v.tty {
			prefix = "« "
		}
		_, err = fmt.Fprintf(v.out, "%s%s\n", prefix, printable(string(text)))
		return err
	}}, msrp.Status{}
}

// Closed implements msrp.SessionHandler.
func (v *screen) Closed(*msrp.Session, error) {}

// printable keeps a peer from sending commands to the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
