//go:build !unix

package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
)

var errNoAdmin = errors.New("there is no admin socket on this system: stop the server to administer the store")

func listenAdmin(string, *slog.Logger) (net.Listener, func(), error) { return nil, nil, errNoAdmin }

func dialAdmin(context.Context, string) (net.Conn, error) { return nil, errNoAdmin }
