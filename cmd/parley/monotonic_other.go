//go:build !linux

package main

import "log/slog"

func notifyReloading(*slog.Logger) {}
