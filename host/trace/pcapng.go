package trace

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// A Capture writes frames as a pcapng section: each is a TCP segment between the
// ends of its connection, whether it came by TLS, by WebSocket or plain, so that
// readers need no keys. Frames whose body is hidden, and the first piece of a long
// one, are shortened to what is shown.
type Capture struct {
	w   *pcapgo.NgWriter
	seq map[uint64]*[2]uint32 // by connection: sent, received
	buf gopacket.SerializeBuffer
}

// maxSeqs bounds the connections whose sequence numbers are remembered.
const maxSeqs = 10_000

// NewCapture writes the beginning of a section.
func NewCapture(w io.Writer) (*Capture, error) {
	opts := pcapgo.DefaultNgWriterOptions
	opts.SectionInfo.Application = "parley"
	ng, err := pcapgo.NewNgWriterInterface(w, pcapgo.NgInterface{Name: "msrp", LinkType: layers.LinkTypeRaw, SnapLength: 0}, opts)
	if err != nil {
		return nil, err
	}
	return &Capture{w: ng, seq: map[uint64]*[2]uint32{}, buf: gopacket.NewSerializeBuffer()}, ng.Flush()
}

// Write writes a frame, and all of it before it returns.
func (c *Capture) Write(f *Frame) error {
	seq := c.seq[f.Conn]
	if seq == nil {
		if len(c.seq) >= maxSeqs {
			clear(c.seq)
		}
		seq = &[2]uint32{1, 1}
		c.seq[f.Conn] = seq
	}
	src, dst, from := ends(f)
	data := f.wire()
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()),
		Seq: seq[from], Ack: seq[1-from], ACK: true, PSH: true, Window: 65535,
	}
	seq[from] += uint32(len(data))
	var ip gopacket.SerializableLayer
	if src.Addr().Is4() {
		l := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IP(src.Addr().AsSlice()), DstIP: net.IP(dst.Addr().AsSlice())}
		ip = l
		_ = tcp.SetNetworkLayerForChecksum(l) // never fails for IP
	} else {
		l := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: net.IP(src.Addr().AsSlice()), DstIP: net.IP(dst.Addr().AsSlice())}
		ip = l
		_ = tcp.SetNetworkLayerForChecksum(l)
	}
	if err := gopacket.SerializeLayers(c.buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, tcp, gopacket.Payload(data)); err != nil {
		return err
	}
	packet := c.buf.Bytes()
	if err := c.w.WritePacket(gopacket.CaptureInfo{Timestamp: f.Time, CaptureLength: len(packet), Length: len(packet)}, packet); err != nil {
		return err
	}
	return c.w.Flush()
}

// ends returns the source and destination of a frame, of one IP version, and 0 or
// 1 for the direction. What is not known is 0.0.0.0 and a port made of the
// connection's number.
func ends(f *Frame) (src, dst netip.AddrPort, from int) {
	local, remote := f.Ends.Local, f.Ends.Remote
	if !local.IsValid() || !remote.IsValid() || local.Addr().Is4() != remote.Addr().Is4() {
		local = netip.AddrPortFrom(netip.IPv4Unspecified(), 2855)
		remote = netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(f.Conn)|0x8000)
	}
	if f.Out {
		return local, remote, 0
	}
	return remote, local, 1
}

// File appends frames to a pcapng file, until s is closed or ctx is done. At
// size bytes the file becomes name.1, in place of an older one, and a new one is begun.
func File(ctx context.Context, s *Sub, name string, size int64) error {
	f := &file{name: name}
	if err := f.open(); err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // each frame was written; there is nothing to lose
	return s.Each(ctx, func(fr *Frame) error {
		if f.written >= size {
			if err := f.rotate(); err != nil {
				return err
			}
		}
		return f.c.Write(fr)
	})
}

type file struct {
	*os.File
	name    string
	written int64
	c       *Capture
}

func (f *file) open() error {
	o, err := os.OpenFile(f.name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := o.Stat()
	if err != nil {
		o.Close()
		return err
	}
	f.File, f.written = o, info.Size()
	f.c, err = NewCapture(f)
	return err
}

func (f *file) rotate() error {
	if err := f.Close(); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	if err := os.Rename(f.name, f.name+".1"); err != nil {
		return err
	}
	return f.open()
}

// Write counts what is written.
func (f *file) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	f.written += int64(n)
	return n, err
}
