package relay

import (
	"strings"

	"github.com/parley-msrp/parley/host/msrp"
)

// trace logs the head of a frame, without credentials and with session URIs
// shortened: both are secrets (RELAY-124).
func (c *conn) trace(out bool, head []byte) {
	way := "received"
	if out {
		way = "sent"
	}
	c.log.Info("frame", "way", way, "head", harmless(string(head)))
}

// harmless returns the lines of a head with their secrets taken out.
func harmless(head string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.TrimRight(head, "\r\n"), "\r\n") {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		name, value, ok := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "authorization", "www-authenticate", "authentication-info":
			b.WriteString(name + ": (hidden)")
			continue
		case "to-path", "from-path", "use-path":
			b.WriteString(name + ":")
			for uri := range strings.FieldsSeq(value) {
				u, err := msrp.ParseURI(uri)
				if err != nil {
					b.WriteString(" (not a URI)")
					continue
				}
				b.WriteString(" " + u.Short())
			}
			continue
		}
		b.WriteString(name)
		if ok {
			b.WriteString(":" + value)
		}
	}
	return b.String()
}
