package main

import (
	"net"

	"golang.org/x/sys/unix"
)

// peer is the user who has connected.
func peer(c *net.UnixConn) (uid int, known bool, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false, err
	}
	var cred *unix.Ucred
	var refused error
	err = raw.Control(func(fd uintptr) {
		cred, refused = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return 0, false, err
	}
	return int(cred.Uid), true, nil
}
