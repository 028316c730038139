//go:build unix && !linux

package main

import "net"

// peer is not known: the mode of the socket is what keeps others away.
func peer(*net.UnixConn) (uid int, known bool, err error) { return 0, false, nil }
