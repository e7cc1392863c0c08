package wasm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/parley-msrp/parley/host/hook"
	"github.com/parley-msrp/parley/sdk/abi"
)

// Authenticate returns the plugin as a provider of hook authenticate, for a
// binding with these parameters.
func (p *Plugin) Authenticate(params map[string]any) hook.Provider[hook.AuthRequest, hook.AuthReply] {
	fixed := Params(params)
	return hook.Func[hook.AuthRequest, hook.AuthReply](func(ctx context.Context, q *hook.AuthRequest) (a hook.AuthReply, err error) {
		err = p.ask(ctx, abi.ExportAuthenticate, fixed, func(b []byte) []byte { return appendAuth(b, q) }, func(v abi.Verdict, reply []byte) error {
			return errors.Join(readAuth(&a, v, reply), hook.Check(q, &a))
		})
		return a, err
	})
}

// SelectInterface returns the plugin as a provider of hook select_interface,
// for a binding with these parameters.
func (p *Plugin) SelectInterface(params map[string]any) hook.Provider[hook.InterfaceRequest, hook.InterfaceReply] {
	fixed := Params(params)
	return hook.Func[hook.InterfaceRequest, hook.InterfaceReply](func(ctx context.Context, q *hook.InterfaceRequest) (a hook.InterfaceReply, err error) {
		err = p.ask(ctx, abi.ExportSelectInterface, fixed, func(b []byte) []byte { return appendInterface(b, q) }, func(v abi.Verdict, reply []byte) error {
			return errors.Join(readInterface(&a, v, reply), hook.Check(q, &a))
		})
		return a, err
	})
}

// buffers holds messages between calls.
var buffers = sync.Pool{New: func() any { return new([2][]byte) }}

// ask makes one call: request is appended to what all hooks have.
func (p *Plugin) ask(ctx context.Context, export string, fixed []byte, request func([]byte) []byte, read func(abi.Verdict, []byte) error) error {
	b := buffers.Get().(*[2][]byte)
	defer buffers.Put(b)
	in := append(b[0][:0], fixed...)
	left := p.set.Timeout
	if d, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(d))
	}
	in = abi.AppendUint(in, abi.FieldDeadlineUS, uint64(max(0, left.Microseconds())))
	in = request(in)
	c := Call{Hook: export, Request: in, Reply: b[1][:0], accept: read}
	err := p.Call(ctx, &c)
	b[0], b[1] = in, c.Reply
	return err
}

// Params encodes a binding's parameters, sorted: lists repeat the name, maps
// join names by a dot, and every value is text.
func Params(params map[string]any) []byte { return appendParams(nil, "", params) }

func appendParams(b []byte, name string, v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			full := key
			if name != "" {
				full = name + "." + key
			}
			b = appendParams(b, full, v[key])
		}
		return b
	case []any:
		for _, one := range v {
			b = appendParams(b, name, one)
		}
		return b
	case []string:
		for _, one := range v {
			b = abi.AppendPair(b, abi.FieldParam, name, one)
		}
		return b
	case nil:
		return b
	case float64:
		return abi.AppendPair(b, abi.FieldParam, name, strconv.FormatFloat(v, 'f', -1, 64))
	}
	return abi.AppendPair(b, abi.FieldParam, name, fmt.Sprint(v))
}

func appendText(b []byte, f abi.Field, v string) []byte {
	if v == "" {
		return b
	}
	return abi.AppendText(b, f, v)
}

// appendAddr appends an address with its port, which abi has no type for.
func appendAddr(b []byte, f abi.Field, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return b
	}
	var buf [64]byte
	return abi.AppendText(b, f, string(a.AppendTo(buf[:0])))
}

func appendAttributes(b []byte, m map[string]string) []byte {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		b = abi.AppendPair(b, abi.FieldAttribute, name, m[name])
	}
	return b
}

func appendAuth(b []byte, q *hook.AuthRequest) []byte {
	b = abi.AppendText(b, abi.FieldHook, string(hook.Authenticate))
	b = appendText(b, abi.FieldBinding, q.Binding)
	b = appendText(b, abi.FieldListener, q.Listener)
	b = appendText(b, abi.FieldTransport, q.Transport)
	b = appendAddr(b, abi.FieldLocalAddr, q.LocalAddr)
	b = appendAddr(b, abi.FieldRemoteAddr, q.RemoteAddr)
	b = appendText(b, abi.FieldTLSSNI, q.SNI)
	b = appendText(b, abi.FieldTLSClientCN, q.ClientCN)
	b = appendText(b, abi.FieldRealm, q.Realm)
	b = appendText(b, abi.FieldUsername, q.Username)
	b = appendText(b, abi.FieldURI, q.URI)
	b = appendText(b, abi.FieldMethod, q.Method)
	b = appendText(b, abi.FieldAlgorithm, q.Algorithm)
	b = appendText(b, abi.FieldNonce, q.Nonce)
	b = appendText(b, abi.FieldResponse, q.Response)
	b = appendText(b, abi.FieldCNonce, q.CNonce)
	b = appendText(b, abi.FieldNC, q.NC)
	b = appendText(b, abi.FieldQOP, q.QOP)
	b = appendText(b, abi.FieldFromPath, q.FromPath)
	b = appendText(b, abi.FieldToPath, q.ToPath)
	b = appendText(b, abi.FieldCookie, q.Cookie)
	b = appendText(b, abi.FieldBearer, q.Bearer)
	b = appendText(b, abi.FieldOrigin, q.Origin)
	return appendText(b, abi.FieldRelay, q.Relay)
}

func appendInterface(b []byte, q *hook.InterfaceRequest) []byte {
	b = abi.AppendText(b, abi.FieldHook, string(hook.SelectInterface))
	b = appendText(b, abi.FieldBinding, q.Binding)
	b = appendText(b, abi.FieldListener, q.Listener)
	b = appendAddr(b, abi.FieldRemoteAddr, q.RemoteAddr)
	b = appendText(b, abi.FieldUsername, q.Username)
	b = appendText(b, abi.FieldSessionID, q.SessionID)
	b = appendAttributes(b, q.Attributes)
	b = appendText(b, abi.FieldHost, q.Host)
	b = abi.AppendUint(b, abi.FieldPort, uint64(q.Port))
	secure := uint64(0)
	if q.Secure {
		secure = 1
	}
	b = abi.AppendUint(b, abi.FieldSecure, secure)
	b = appendText(b, abi.FieldTransport, q.Transport)
	b = appendText(b, abi.FieldFromPath, q.FromPath)
	b = appendText(b, abi.FieldToPath, q.ToPath)
	for _, o := range q.Offers {
		var mark int
		b, mark = abi.Begin(b, abi.FieldOffer)
		b = abi.AppendText(b, abi.FieldName, o.Name)
		if o.Address.IsValid() {
			b = abi.AppendText(b, abi.FieldAddress, o.Address.String())
		}
		b = abi.End(appendText(b, abi.FieldListener, o.Listener), mark)
	}
	return b
}

// readReply reads what replies of all hooks have in common, and hands the
// other fields to each.
func readReply(out *hook.Reply, attributes *map[string]string, v abi.Verdict, reply []byte, each func(r *abi.Reader) error) error {
	switch v {
	case abi.VerdictNext:
		return nil // what else the reply says means nothing
	case abi.VerdictDone:
		out.Verdict = hook.Done
	case abi.VerdictDeny:
		out.Verdict = hook.Deny
	default:
		return fmt.Errorf("verdict %v is not one of this hook", v)
	}
	r := abi.Read(reply)
	for r.Next() {
		switch r.Field {
		case abi.FieldStatus:
			out.Status = int(min(r.Uint(), 1<<16))
		case abi.FieldReason:
			out.Reason = string(r.Text())
		case abi.FieldAttribute:
			name, text := r.Pair()
			if *attributes == nil {
				*attributes = map[string]string{}
			}
			(*attributes)[string(name)] = string(text)
		default:
			if err := each(&r); err != nil {
				return err
			}
		}
	}
	if v == abi.VerdictDone { // a reason for what is not refused
		out.Status, out.Reason = 0, ""
	}
	return r.Err()
}

func readAuth(a *hook.AuthReply, v abi.Verdict, reply []byte) error {
	return readReply(&a.Reply, &a.Attributes, v, reply, func(r *abi.Reader) error {
		switch r.Field {
		case abi.FieldPassword:
			a.Password = string(r.Text())
		case abi.FieldHA1:
			a.HA1 = string(r.Text())
		case abi.FieldAuthenticated:
			a.Authenticated = r.Uint() == 1
		case abi.FieldMaxExpiresMS:
			ms := r.Uint()
			if ms > uint64(maxExpires/time.Millisecond) {
				return fmt.Errorf("max_expires_ms: %d is more than a year", ms)
			}
			a.MaxExpires = time.Duration(ms) * time.Millisecond
		case abi.FieldUsername:
			a.Username = string(r.Text())
		case abi.FieldMaxSessions:
			a.Limits.Sessions = limit(r)
		case abi.FieldMessagesPerMinute:
			a.Limits.MessagesPerMinute = limit(r)
		case abi.FieldBytesPerSecond:
			a.Limits.BytesPerSecond = limit(r)
		case abi.FieldUserMessagesPerMinute:
			a.Limits.UserMessagesPerMinute = limit(r)
		case abi.FieldUserBytesPerSecond:
			a.Limits.UserBytesPerSecond = limit(r)
		case abi.FieldMaxMessage:
			a.Limits.Message = limit(r)
		}
		return nil
	})
}

// limit reads a number; what is larger than any limit means none.
func limit(r *abi.Reader) int64 { return int64(min(r.Uint(), math.MaxInt64)) }

const maxExpires = 366 * 24 * time.Hour

func readInterface(a *hook.InterfaceReply, v abi.Verdict, reply []byte) error {
	return readReply(&a.Reply, &a.Attributes, v, reply, func(r *abi.Reader) error {
		switch r.Field {
		case abi.FieldInterface:
			a.Interface = string(r.Text())
		case abi.FieldAddress:
			text := string(r.Text())
			if r.Err() != nil {
				return nil // told at the end
			}
			var err error
			if a.Address, err = netip.ParseAddr(text); err != nil {
				return errors.New("address: " + err.Error())
			}
		}
		return nil
	})
}
