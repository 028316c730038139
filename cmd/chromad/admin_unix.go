//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/chromad/chromad/internal/outbound"
)

// maxSocketPath is what fits the address of a socket on every system, in bytes.
const maxSocketPath = 100

// adminTmp is a directory that only we can enter, where the socket is made: it
// has the right mode before anybody else sees it.
const adminTmp = "admin.tmp"

// listenAdmin makes the admin socket in dir, in the place of one that a killed
// process has left: the caller holds the store's lock, so nobody listens there.
// remove takes it away; connections go on.
func listenAdmin(dir string, log *slog.Logger) (l net.Listener, remove func(), err error) {
	tmp := filepath.Join(dir, adminTmp)
	if err := os.RemoveAll(tmp); err != nil {
		return nil, nil, err
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(tmp)
	name, release, err := socketPath(tmp, "s")
	if err != nil {
		return nil, nil, err
	}
	defer release()
	u, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	u.SetUnlinkOnClose(false) // it would remove what has the old name by then
	made, final := filepath.Join(tmp, "s"), filepath.Join(dir, adminSocket)
	if err = os.Chmod(made, 0o600); err == nil {
		err = os.Rename(made, final)
	}
	if err != nil {
		return nil, nil, errors.Join(err, u.Close())
	}
	return &ownersOnly{u, log}, func() { os.Remove(final) }, nil
}

// dialAdmin connects to the admin socket in dir.
func dialAdmin(ctx context.Context, dir string) (net.Conn, error) {
	name, release, err := socketPath(dir, adminSocket)
	if err != nil {
		return nil, err
	}
	defer release()
	way, err := outbound.From(ctx).Way("admin socket", "unix:"+name)
	if err != nil {
		return nil, err
	}
	return way.DialContext(ctx, "unix", name)
}

// socketPath is a path of the file in dir that is short enough for a socket:
// where the plain one is not, it goes by way of the open directory, as far as
// the system shows those. release when it is bound or connected.
func socketPath(dir, name string) (path string, release func(), err error) {
	if path = filepath.Join(dir, name); len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	by := filepath.Join("/proc/self/fd", strconv.Itoa(int(d.Fd())))
	if to, err := os.Readlink(by); err != nil || to == "" {
		d.Close()
		return "", nil, fmt.Errorf("%s: its path has %d bytes, and a socket's can have %d here", path, len(path), maxSocketPath)
	}
	return filepath.Join(by, name), func() { d.Close() }, nil
}

// ownersOnly refuses callers who run as somebody else, beside what the mode of
// the socket does.
type ownersOnly struct {
	*net.UnixListener
	log *slog.Logger
}

// Accept returns the next connection of the owner or the administrator.
func (o *ownersOnly) Accept() (net.Conn, error) {
	for {
		c, err := o.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, known, err := peer(c)
		if err == nil && (!known || mayAdminister(uid, os.Geteuid())) {
			return c, nil
		}
		o.log.Warn("somebody else was refused at the admin socket", "uid", uid, "error", err)
		c.Close()
	}
}

// mayAdminister tells whether user uid may use the socket of a process of owner.
func mayAdminister(uid, owner int) bool { return uid == owner || uid == 0 }
