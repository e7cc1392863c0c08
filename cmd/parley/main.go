// Command parley is an MSRP relay, and the clients to try one with.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set by the linker (see Makefile).
var version = "unknown"

// Exit codes.
const (
	exitOK    = 0
	exitFault = 1 // it did not work
	exitUsage = 2 // it was not asked properly: command line or configuration
)

type cli struct {
	Serve       serveCmd       `cmd:"" help:"Run the relay. Without --config: a demo on loopback, with everything it needs."`
	CheckConfig checkConfigCmd `cmd:"" name:"check-config" help:"Check a configuration file and report all its faults."`
	Health      healthCmd      `cmd:"" help:"Ask a running relay whether all is well."`
	Trace       traceCmd       `cmd:"" help:"Show the frames of a running relay as they come."`
	Chat        chatCmd        `cmd:"" help:"Chat with a peer through a relay."`
	Send        sendCmd        `cmd:"" help:"Send a file to a peer that runs 'parley recv'."`
	Recv        recvCmd        `cmd:"" help:"Receive one file through a relay."`
	Bench       benchCmd       `cmd:"" help:"Load a relay: what a message costs, how long it takes, and that none is lost or changed."`
	Plugin      pluginCmd      `cmd:"" help:"Make, check and try plugins."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

// env is what a command may use of the process.
type env struct {
	ctx    context.Context // done on SIGINT and SIGTERM
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// A usageError ends in exitUsage.
type usageError struct{ error }

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)

	exited := -1 // --help asks kong to exit
	parser, err := kong.New(&cli{},
		kong.Name("parley"),
		kong.Description("An MSRP relay (RFC 4975, RFC 4976). 'parley serve' starts one to try; it says what to do next."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.UsageOnError(),
	)
	if err != nil {
		fmt.Fprintln(stderr, "parley:", err) // a fault of ours in the tags above
		return exitFault
	}
	k, err := parser.Parse(args)
	if exited >= 0 {
		return exited
	}
	if err != nil {
		fmt.Fprintln(stderr, "parley:", err)
		fmt.Fprintln(stderr, "Run 'parley --help', or 'parley COMMAND --help'.")
		return exitUsage
	}
	err = k.Run(&env{ctx, stdin, stdout, stderr})
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintln(stderr, "parley:", err)
		return exitUsage
	default:
		fmt.Fprintln(stderr, "parley:", err)
		return exitFault
	}
}

func programVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && version == "unknown" && info.Main.Version != "" {
		return info.Main.Version
	}
	return version
}

type versionCmd struct{}

// Run prints what the binary was built from.
func (versionCmd) Run(e *env) error {
	fmt.Fprintf(e.stdout, "parley %s (%s, %s/%s)\n", programVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}
