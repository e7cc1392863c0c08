package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/parley-msrp/parley/host/config"
)

// adminFlags say where the admin listener is.
type adminFlags struct {
	Config  string `help:"Configuration file, of which admin.bind is used." type:"path" placeholder:"FILE"`
	Address string `help:"Address of the admin listener, instead." env:"PARLEY_ADMIN__BIND" placeholder:"HOST:PORT"`
}

type healthCmd struct {
	adminFlags
	Live    bool          `help:"Ask whether it runs at all (/livez), not whether it takes new sessions (/readyz)."`
	Timeout time.Duration `help:"How long to wait for the answer." default:"3s"`
}

// Help is what --help says beside the flags.
func (healthCmd) Help() string {
	return "The exit code is 0 if all is well, 1 if not, and 2 if it does not know whom to ask. It serves as a container's HEALTHCHECK."
}

// maxHealth bounds what is shown of an answer, in bytes.
const maxHealth = 4 << 10

// Run asks the admin listener.
func (cmd *healthCmd) Run(e *env) error {
	address, err := cmd.address()
	if err != nil {
		return usageError{err}
	}
	ctx, cancel := context.WithTimeout(e.ctx, cmd.Timeout)
	defer cancel()
	path := "/readyz?verbose"
	if cmd.Live {
		path = "/livez"
	}
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return usageError{fmt.Errorf("address: %w", err)}
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // it never goes by a proxy
	resp, err := client.Do(rq)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxHealth))
	if err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s\n%s", address, resp.Status, strings.TrimSpace(string(text)))
	}
	_, err = e.stdout.Write(text)
	return err
}

// address returns where the admin listener can be reached from this machine.
func (cmd *adminFlags) address() (string, error) {
	bind := cmd.Address
	if bind == "" && cmd.Config != "" {
		cfg, err := config.Load(config.Sources{File: cmd.Config, Environ: os.Environ()})
		if err != nil {
			return "", err
		}
		if bind = cfg.Admin.Bind; bind == "" {
			return "", fmt.Errorf("%s: there is no admin.bind to ask", cmd.Config)
		}
	}
	if bind == "" {
		return "", errors.New("whom to ask? Give --config or --address")
	}
	host, port, err := net.SplitHostPort(bind)
	if err != nil {
		return "", fmt.Errorf("address: %w", err)
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case host == "" || err == nil && addr.Is4() && addr.IsUnspecified():
		host = "127.0.0.1" // it listens everywhere
	case err == nil && addr.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}
