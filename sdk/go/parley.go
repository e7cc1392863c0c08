// Package parley is for plugins of Parley that are written in Go. A plugin is a
// package main that answers hooks; the package of each hook, such as
// authenticate, exports it:
//
//	package main
//
//	import "github.com/parley-msrp/parley/sdk/go/authenticate"
//
//	func init() {
//		authenticate.Handle(func(r authenticate.Request) authenticate.Reply {
//			if r.Username() != "alice" {
//				return authenticate.Next() // somebody else may know
//			}
//			return authenticate.Done().Password("wonderland")
//		})
//	}
//
//	func main() {} // is never run
//
// It is built with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags='-s -w' -o mine.wasm .
//
// This package has what hooks have in common: the configuration, logs, and the
// services of the host, whose errors are of type [abi.Errno]. Everything here is
// for the one call that runs: no goroutine may outlive it, since between calls
// the plugin stands still. Package parleytest is a host for tests.
package parley

import (
	"runtime"
	"strconv"

	"github.com/parley-msrp/parley/sdk/abi"
	"github.com/parley-msrp/parley/sdk/go/internal/host"
)

// Config returns the plugin's configuration, as the operator has written it.
func Config() string { return host.ReadAll(abi.SourceConfig, -1) }

var loaders []func(config string) error

// OnLoad says what is to happen in each new instance, with the plugin's
// configuration, before it is asked anything. An error refuses the load, and the
// plugin that runs goes on with the configuration it has. It is called from an
// init function, and more than once if there is more than one thing to do.
func OnLoad(f func(config string) error) { loaders = append(loaders, f) }

// Load does what OnLoad was told: the export on_load and tests call it.
func Load(size int32) int32 {
	if len(loaders) == 0 {
		return 0
	}
	config := host.ReadAll(abi.SourceConfig, size)
	for _, f := range loaders {
		if err := f(config); err != nil {
			return send(Fail(err.Error()))
		}
	}
	return 0
}

var calls uint32

// Serve answers one call of a hook, whose message has this size. The packages of
// the hooks call it.
func Serve(size int32, answer func(Message) Reply) int32 {
	verdict := send(answer(Message{host.ReadAll(abi.SourceInput, size)}))
	// The collector works in goroutines, which run only while a call waits for
	// nothing else: without this it would begin cycles and never end one.
	if calls++; calls%64 == 0 {
		runtime.Gosched()
	}
	return verdict
}

// send hands a reply over, whole or not at all: a refusal without its reason
// would do, but a Done without its max_expires_ms would not.
func send(r Reply) int32 {
	if len(r.b) == 0 {
		return int32(r.verdict)
	}
	n := host.Write(abi.SinkReply, r.b)
	if n >= 0 {
		return int32(r.verdict)
	}
	why := Fail("the host does not take the reply: errno " + strconv.Itoa(int(n)))
	host.Write(abi.SinkReply, why.b)
	return n
}

// Call asks a service by its number, with a request that was encoded by package
// abi. The services that this package knows have functions of their own.
func Call(service abi.Service, request []byte) (Message, error) {
	n := host.Call(uint32(service), request)
	if n < 0 {
		return Message{}, abi.Errno(n)
	}
	return Message{host.ReadAll(abi.SourceResult, n)}, nil
}
