package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/parley-msrp/parley/host"
)

// inherited returns the sockets that systemd passed, by listener: FileDescriptorName
// must be the listener's name.
func inherited(cfg host.Config) (map[string]net.Listener, error) {
	passed, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("sockets from systemd: %w", err)
	}
	sockets := map[string]net.Listener{}
	for name, lns := range passed {
		if _, ok := cfg.Listeners[name]; !ok || len(lns) != 1 || lns[0] == nil {
			return nil, fmt.Errorf("systemd passed %d sockets with FileDescriptorName=%s: each must be a stream socket with the name of one listener", len(lns), name)
		}
		sockets[name] = lns[0]
	}
	return sockets, nil
}

// notify tells systemd, if it wants to know.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd was not told", "state", state, "err", err)
	}
}

// watchdog tells systemd that all is well, twice as often as it wants to hear, as
// long as that is true.
func watchdog(ctx context.Context, s *host.Server, log *slog.Logger) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		if err != nil {
			log.Warn("no watchdog", "err", err)
		}
		return
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := s.Check(); err != nil {
				log.Error("not well: systemd is not told otherwise", "err", err)
				continue
			}
			notify(log, daemon.SdNotifyWatchdog)
		}
	}
}
