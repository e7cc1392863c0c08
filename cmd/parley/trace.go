package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

type traceCmd struct {
	adminFlags
	Session  string        `help:"Only frames by this session: its URI, or the beginning of the session-id."`
	User     string        `help:"Only frames by sessions of this user."`
	Listener string        `help:"Only frames of this listener, or 'dialled' for those to next hops."`
	Peer     string        `help:"Only frames to and from this address or prefix."`
	Bodies   bool          `help:"Show what people write, too: the first 8 KiB of each body."`
	Format   string        `help:"text, json (a line for each frame) or pcapng." enum:"text,json,pcapng" default:"text"`
	For      time.Duration `help:"How long to look, up to 24h." default:"1h"`
	Out      string        `short:"o" help:"Write to this file, which only you can read, instead of standard output." type:"path" placeholder:"FILE"`
}

// Help is what --help says beside the flags.
func (traceCmd) Help() string {
	return "The relay needs admin.trace. To read frames with tshark, as they come:\n\n" +
		"  parley trace --address 127.0.0.1:8856 --format pcapng | tshark -i - -d tcp.port==2855,msrp -O msrp\n"
}

// Run shows frames until it is interrupted.
func (cmd *traceCmd) Run(e *env) error {
	address, err := cmd.address()
	if err != nil {
		return usageError{err}
	}
	q := url.Values{"format": {cmd.Format}, "for": {cmd.For.String()}, "bodies": {strconv.FormatBool(cmd.Bodies)}}
	for name, v := range map[string]string{"session": cmd.Session, "user": cmd.User, "listener": cmd.Listener, "peer": cmd.Peer} {
		if v != "" {
			q.Set(name, v)
		}
	}
	rq, err := http.NewRequestWithContext(e.ctx, http.MethodGet, "http://"+address+"/debug/trace?"+q.Encode(), nil)
	if err != nil {
		return usageError{fmt.Errorf("address: %w", err)}
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // it never goes by a proxy
	resp, err := client.Do(rq)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return fmt.Errorf("%s shows no frames: set admin.trace to true there, and restart it", address)
	default:
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxHealth)) // what there is of it
		return fmt.Errorf("%s: %s: %s", address, resp.Status, strings.TrimSpace(string(text)))
	}
	out := e.stdout
	if cmd.Out != "" {
		f, err := os.OpenFile(cmd.Out, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		out = f
	}
	fmt.Fprintln(e.stderr, "frames are shown as they come; Ctrl-C ends")
	_, err = io.Copy(out, resp.Body)
	if e.ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
