// Command conform is the conformance guest of this SDK: testdata/abi/conformance.json
// says what it has to do, and host/wasm's tests build and ask it.
package main

import (
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/parley-msrp/parley/sdk/abi"
	parley "github.com/parley-msrp/parley/sdk/go"
	"github.com/parley-msrp/parley/sdk/go/authenticate"
	"github.com/parley-msrp/parley/sdk/go/internal/host"
	"github.com/parley-msrp/parley/sdk/go/selectinterface"
)

// What lives from call to call.
var (
	loaded int
	count  int
)

func init() {
	parley.OnLoad(func(config string) error {
		if why, refuse := strings.CutPrefix(config, "refuse:"); refuse {
			return errors.New(why)
		}
		loaded = len(config)
		return nil
	})
	authenticate.Handle(auth)
	selectinterface.Handle(choose)
}

func main() {}

// say answers with a text, or with the number of an error.
func say(text string, err error) authenticate.Reply {
	if err != nil {
		text = errno(err)
	}
	return authenticate.Deny(0, text)
}

// ok is say where there is nothing to say.
func ok(err error) authenticate.Reply { return say("ok", err) }

func errno(err error) string {
	var e abi.Errno
	if errors.As(err, &e) {
		return strconv.Itoa(int(e))
	}
	return err.Error()
}

func auth(r authenticate.Request) authenticate.Reply {
	key, value := r.Param("key"), []byte(r.Param("value"))
	switch r.Username() {
	case "ha1":
		return authenticate.Done().HA1(r.Param("ha1"))
	case "password":
		return authenticate.Done().Password(r.Realm() + ":" + r.Param("suffix"))
	case "authenticated":
		return authenticate.Done().Authenticated().MaxExpires(time.Minute).Attribute("group", "staff").Attribute("color", "blue")
	case "limits":
		return authenticate.Done().Authenticated().Username(r.Param("username")).MaxSessions(1).MessagesPerMinute(2).BytesPerSecond(3).
			UserMessagesPerMinute(4).UserBytesPerSecond(5).MaxMessage(6)
	case "deny":
		return authenticate.Deny(404, "no such user")
	case "deny-plain":
		return authenticate.Deny(0, "")
	case "fail":
		return authenticate.Raw(parley.NewReply(-5).Text(abi.FieldReason, "database is down"))
	case "strange":
		return authenticate.Raw(parley.NewReply(77))
	case "field":
		return say(field(r, r.Param("field")), nil)
	case "deadline":
		if us := r.Deadline().Microseconds(); us < 1 || us > 60_000_000 {
			return say("bad", nil)
		}
		return ok(nil)
	case "list":
		text := ""
		for _, item := range r.Params("item") {
			text += item + ";"
		}
		return say(text, nil)
	case "config":
		return say(parley.Config(), nil)
	case "loaded":
		return say(strconv.Itoa(loaded), nil)
	case "log":
		parley.Error("hello 1")
		parley.Warn("hello 2")
		parley.Info("hello 3")
		parley.Debug("hello 4")
		return authenticate.Next()
	case "count":
		count++
		return say(strconv.Itoa(count), nil)
	case "time":
		now, err := parley.Time()
		if err == nil && now.UnixNano() <= 1600000000000000000 {
			return say("bad", nil)
		}
		return ok(err)
	case "random":
		b, err := parley.Random(16)
		return say(strconv.Itoa(len(b)), err)
	case "kv-set":
		return ok(parley.KVSet(key, value, ttl(r)))
	case "kv-get":
		e, err := parley.KVGet(key)
		return say(string(e.Value), err)
	case "kv-del":
		return ok(parley.KVDel(key))
	case "kv-incr":
		n, err := parley.KVIncr(key, 5, 0)
		return say(strconv.FormatInt(n, 10), err)
	case "kv-cas":
		return swap(key, value)
	case "metric":
		if err := parley.Count("conform_total", 2, "color", "blue"); err != nil {
			return ok(err)
		}
		return authenticate.Next()
	case "http":
		a, err := parley.HTTP(parley.HTTPRequest{URL: r.Param("url"), Header: []parley.Pair{{Name: "X-Conform", Text: "yes"}}})
		return say(strconv.Itoa(a.Status)+" "+string(a.Body), err)
	case "session":
		if err := parley.SessionSet("seen", r.Realm()); err != nil {
			return ok(err)
		}
		switch seen, err := parley.SessionGet("seen"); {
		case err != nil:
			return ok(err)
		case seen != r.Realm():
			return say("bad", nil)
		}
		return authenticate.Done().Authenticated()
	case "session-none":
		return say(parley.SessionGet("nothing"))
	case "feature":
		op, err := strconv.ParseUint(r.Param("op"), 10, 32)
		text := "0"
		if parley.Feature(abi.Service(op)) {
			text = "1"
		}
		return say(text, err)
	case "nosys":
		_, err := parley.Call(9999, nil)
		return ok(err)
	case "hash":
		ha1, err := authenticate.HA1("MD5", r.Username(), r.Realm(), "secret")
		if err != nil {
			return ok(err)
		}
		return authenticate.Done().HA1(ha1)
	case "hmac":
		sum, err := parley.HMAC(parley.SHA256, []byte("Jefe"), []byte("what do ya want for nothing?"))
		return say(hex.EncodeToString(sum[:min(8, len(sum))]), err)
	case "big":
		return big()
	case "body":
		return say(strconv.Itoa(int(host.Read(abi.SourceBody, 0, nil))), nil)
	case "trap":
		panic("boom")
	}
	return authenticate.Next()
}

// field returns a field of the request by its name.
func field(r authenticate.Request, name string) string {
	get, ok := map[string]func() string{
		"listener": r.Listener, "transport": r.Transport, "local_addr": r.LocalAddr, "remote_addr": r.RemoteAddr,
		"tls_sni": r.TLSSNI, "tls_client_cn": r.TLSClientCN, "realm": r.Realm, "username": r.Username, "uri": r.URI,
		"method": r.Method, "algorithm": r.Algorithm, "nonce": r.Nonce, "response": r.Response, "cnonce": r.CNonce,
		"nc": r.NC, "qop": r.QOP, "from_path": r.FromPath, "to_path": r.ToPath, "hook": r.Hook, "binding": r.Binding,
		"cookie": r.Cookie, "bearer": r.Bearer, "origin": r.Origin, "relay": r.Relay,
	}[name]
	if !ok {
		return "no field " + name
	}
	return get()
}

// big writes by itself: the SDK writes a reply once, whole or not at all.
func big() authenticate.Reply {
	piece := abi.AppendBytes(nil, 0x8001, make([]byte, 1024))
	for range 1000 {
		switch n := host.Write(abi.SinkReply, piece); {
		case n == int32(abi.ErrTooBig):
			return authenticate.Raw(parley.NewReply(-6))
		case n < 0:
			return authenticate.Next()
		}
	}
	return authenticate.Next()
}

func swap(key string, value []byte) authenticate.Reply {
	e, err := parley.KVGet(key)
	if err != nil && err != abi.ErrNoEnt {
		return ok(err)
	}
	if _, err := parley.KVCAS(key, value, e.Version, 0); err != nil {
		return ok(err)
	}
	if _, err := parley.KVCAS(key, value, e.Version, 0); err != abi.ErrConflict {
		return say("bad", nil)
	}
	return ok(nil)
}

// ttl is a parameter in milliseconds.
func ttl(r authenticate.Request) time.Duration {
	ms, _ := strconv.ParseInt(r.Param("ttl"), 10, 64)
	return time.Duration(ms) * time.Millisecond
}

func choose(r selectinterface.Request) selectinterface.Reply {
	offers := r.Offers()
	switch r.Username() {
	case "last":
		o := offers[len(offers)-1]
		return selectinterface.Done().Interface(o.Name()).Address(o.Address())
	case "mark":
		secure := "0"
		if r.Secure() {
			secure = "1"
		}
		seen := r.Host() + ":" + strconv.FormatUint(r.Port(), 10) + ":" + secure
		return selectinterface.Done().Interface(offers[0].Name()).Attribute("seen", seen)
	case "group":
		return selectinterface.Done().Interface(r.Attribute("group"))
	case "refuse":
		return selectinterface.Deny(403, "not from "+r.RemoteAddr())
	}
	return selectinterface.Next()
}
