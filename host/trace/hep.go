package trace

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
)

// HEP says how frames are sent to a Homer collector, by HEPv3 over UDP.
type HEP struct {
	Address string // host:port
	// ID is the number of this capture agent.
	ID uint32
	// Protocol is what the payload is said to be. HEP has no number for MSRP;
	// Homer shows 100, its logs, as text.
	Protocol uint8
	Key      string // authenticates; "" = none
}

// Chunk types of HEPv3, of vendor 0.
const (
	hepFamily   = 0x01
	hepIPProto  = 0x02
	hepSrc4     = 0x03
	hepDst4     = 0x04
	hepSrc6     = 0x05
	hepDst6     = 0x06
	hepSrcPort  = 0x07
	hepDstPort  = 0x08
	hepSeconds  = 0x09
	hepMicros   = 0x0a
	hepProtocol = 0x0b
	hepAgent    = 0x0c
	hepKey      = 0x0e
	hepPayload  = 0x0f
	hepCall     = 0x11
)

// Send sends frames, until s is closed or ctx is done. The error is that the
// address cannot be looked up; a collector that is not there loses what it is sent.
func (h HEP) Send(ctx context.Context, s *Sub) error {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "udp", h.Address)
	if err != nil {
		return err
	}
	defer nc.Close()
	var b []byte
	return s.Each(ctx, func(f *Frame) error {
		b = h.append(b[:0], f)
		if _, err := nc.Write(b); err != nil {
			s.hub.lost.Add(1)
		}
		return nil
	})
}

// append appends one packet.
func (h HEP) append(b []byte, f *Frame) []byte {
	src, dst, _ := ends(f)
	b = append(b, "HEP3\x00\x00"...)
	if src.Addr().Is4() {
		b = chunk(b, hepFamily, []byte{2})
		b = chunk(b, hepSrc4, src.Addr().AsSlice())
		b = chunk(b, hepDst4, dst.Addr().AsSlice())
	} else {
		b = chunk(b, hepFamily, []byte{10})
		b = chunk(b, hepSrc6, src.Addr().AsSlice())
		b = chunk(b, hepDst6, dst.Addr().AsSlice())
	}
	b = chunk(b, hepIPProto, []byte{6}) // TCP
	b = port(b, hepSrcPort, src)
	b = port(b, hepDstPort, dst)
	b = chunk(b, hepSeconds, binary.BigEndian.AppendUint32(nil, uint32(f.Time.Unix())))
	b = chunk(b, hepMicros, binary.BigEndian.AppendUint32(nil, uint32(f.Time.Nanosecond()/1000)))
	b = chunk(b, hepProtocol, []byte{h.Protocol})
	b = chunk(b, hepAgent, binary.BigEndian.AppendUint32(nil, h.ID))
	if h.Key != "" {
		b = chunk(b, hepKey, []byte(h.Key))
	}
	if f.Call != "" {
		b = chunk(b, hepCall, []byte(f.Call))
	}
	b = chunk(b, hepPayload, f.wire())
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	return b
}

func port(b []byte, kind uint16, a netip.AddrPort) []byte {
	return chunk(b, kind, binary.BigEndian.AppendUint16(nil, a.Port()))
}

func chunk(b []byte, kind uint16, data []byte) []byte {
	b = append(b, 0, 0) // vendor
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(6+len(data)))
	return append(b, data...)
}
