package trace

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

func way(f *Frame) string {
	if f.Out {
		return "sent"
	}
	return "received"
}

// wire returns a frame as it could be on the wire: what is hidden of its body is
// left out.
func (f *Frame) wire() []byte {
	var b strings.Builder
	b.WriteString(f.Head)
	if f.HasBody {
		b.WriteString("\r\n")
		b.Write(f.Body)
		b.WriteString("\r\n")
	}
	fmt.Fprintf(&b, "-------%s%c\r\n", f.TID, f.Flag)
	return []byte(b.String())
}

// text is a frame for the eye: a terminal is told nothing but line breaks.
func (f *Frame) text() string {
	var b strings.Builder
	b.WriteString(f.Head)
	if f.HasBody {
		b.WriteString("\n")
		b.Write(f.Body)
		if f.Hidden {
			b.WriteString("(hidden)")
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "-------%s%c", f.TID, f.Flag)
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\r':
			return -1
		case r == utf8.RuneError, r != '\n' && unicode.IsControl(r):
			return '.'
		}
		return r
	}, b.String())
}

// Log logs frames at level Info, until s is closed or ctx is done.
func Log(ctx context.Context, s *Sub, log *slog.Logger) error {
	return s.Each(ctx, func(f *Frame) error {
		attrs := []any{"listener", f.Listener, "conn", f.Conn, "remote", f.Ends.Remote.String(), "way", way(f), "head", strings.TrimSuffix(strings.ReplaceAll(f.Head, "\r\n", "\n"), "\n")}
		if len(f.Users) > 0 {
			attrs = append(attrs, "users", f.Users)
		}
		if f.Body != nil {
			attrs = append(attrs, "body", string(f.Body))
		}
		if f.Lost > 0 {
			attrs = append(attrs, "lost_before", f.Lost)
		}
		log.Info("frame", attrs...)
		return nil
	})
}

// Text returns a function that writes frames to w for people to read.
func Text(w io.Writer) func(*Frame) error {
	return func(f *Frame) error {
		var b strings.Builder
		if f.Lost > 0 {
			fmt.Fprintf(&b, "(%d frames lost: they came faster than they were read)\n\n", f.Lost)
		}
		arrow := "<-"
		if f.Out {
			arrow = "->"
		}
		fmt.Fprintf(&b, "%s %s conn %d %s %s", f.Time.Format("15:04:05.000000"), f.Listener, f.Conn, arrow, f.Ends.Remote)
		if len(f.Users) > 0 {
			fmt.Fprintf(&b, " (%s)", strings.Join(f.Users, ", "))
		}
		fmt.Fprintf(&b, "\n%s\n\n", f.text())
		_, err := io.WriteString(w, b.String())
		return err
	}
}

// JSON returns a function that writes frames to w as one object a line.
func JSON(w io.Writer) func(*Frame) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return func(f *Frame) error {
		o := struct {
			Time      time.Time `json:"time"`
			Way       string    `json:"way"`
			Listener  string    `json:"listener"`
			Conn      uint64    `json:"conn"`
			Transport string    `json:"transport,omitempty"`
			Local     string    `json:"local"`
			Remote    string    `json:"remote"`
			Users     []string  `json:"users,omitempty"`
			Call      string    `json:"call,omitempty"`
			Head      []string  `json:"head"`
			Body      []byte    `json:"body,omitempty"` // base64
			Hidden    bool      `json:"body_hidden,omitempty"`
			Flag      string    `json:"flag"`
			Lost      uint64    `json:"lost_before,omitempty"`
		}{
			f.Time, way(f), f.Listener, f.Conn, f.Ends.Transport, f.Ends.Local.String(), f.Ends.Remote.String(), f.Users, f.Call,
			strings.Split(strings.TrimSuffix(f.Head, "\r\n"), "\r\n"), f.Body, f.Hidden, string(f.Flag), f.Lost,
		}
		return enc.Encode(o)
	}
}
