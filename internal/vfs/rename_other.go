//go:build !linux

package vfs

func (r *Root) rename(oldname, newname string) error { return r.link(oldname, newname) }
