package faultfs

import (
	"fmt"
	"io/fs"
	"slices"
)

// Op is a kind of call.
type Op uint8

// The calls of vfs.FS and vfs.File. Those from OpCreate to OpSync change the
// disk or what is durable on it; they are numbered.
const (
	OpOpen Op = iota
	OpOpenWrite
	OpList
	OpStat
	OpMap
	OpRead
	OpClose
	OpCreate
	OpRename
	OpRemove
	OpMkdir
	OpSyncDir
	OpLock
	OpWrite
	OpTruncate
	OpSync
)

var opNames = [...]string{
	OpOpen: "open", OpOpenWrite: "openwrite", OpList: "list", OpStat: "stat", OpMap: "map",
	OpRead: "read", OpClose: "close", OpCreate: "create", OpRename: "rename", OpRemove: "remove",
	OpMkdir: "mkdir", OpSyncDir: "syncdir", OpLock: "lock", OpWrite: "write", OpTruncate: "truncate",
	OpSync: "sync",
}

func (o Op) String() string { return opNames[o] }

func (o Op) mutates() bool { return o >= OpCreate }

// call is a line of the trace.
type call struct {
	op       Op
	name, to string
	size     int64
	err      error
}

// step is a call on its way through the disk.
type step struct {
	fs    *FS
	call  call
	cut   bool  // the power is cut while it is under way
	fault Fault // of the rule that hit it, or none
	short error // what it fails with after having done half
	err   error // what it fails with, whatever it does
}

// enter begins a call: it takes the lock, which the caller gives back.
func (f *FS) enter(op Op, name string) *step {
	f.mu.Lock()
	if hook := f.hook; hook != nil {
		f.mu.Unlock()
		hook(op, name) // may block: not under the lock
		f.mu.Lock()
	}
	s := &step{fs: f, call: call{op: op, name: name}}
	switch {
	case f.crashed:
		s.err = ErrCrashed
		return s
	case op.mutates() && f.ops == f.crashAt:
		f.crashed, s.cut, s.err = true, true, ErrCrashed
		return s
	case op.mutates():
		f.ops++
	}
	s.fault, s.short, s.err = f.hit(op, name)
	return s
}

// happens reports whether the call has its effect. One that the power cut
// caught has it as far as the disk got: it is pending.
func (s *step) happens() bool { return s.err == nil || s.cut }

// leave ends a call: err is what it found out itself.
func (s *step) leave(err error) error {
	if s.err != nil {
		err = s.err
	}
	if err != nil {
		err = &fs.PathError{Op: s.call.op.String(), Path: s.call.name, Err: err}
	}
	if s.call.op.mutates() && (s.cut || !s.fs.crashed) {
		s.call.err = err
		s.fs.trace = append(s.fs.trace, s.call)
	}
	return err
}

// CrashAt cuts the power at the mutating call with this number, counted from
// 0 as in Ops: that call and all later ones, reads too, fail with ErrCrashed.
func (f *FS) CrashAt(op int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashAt = op
}

// Crashed reports whether the power is cut.
func (f *FS) Crashed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crashed
}

// Ops is the number of mutating calls so far.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Handles is the number of files, mappings and locks that are open.
func (f *FS) Handles() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.handles
}

// Trace returns a line for every mutating call so far, in order:
//
//	write log/1 512
//	rename tmp/1 seg/1
//	sync seg/1: input/output error
func (f *FS) Trace() []string {
	f.mu.Lock()
	calls := slices.Clone(f.trace)
	f.mu.Unlock()
	lines := make([]string, len(calls))
	for i, c := range calls {
		line := c.op.String() + " " + c.name
		switch c.op {
		case OpRename:
			line += " " + c.to
		case OpWrite, OpTruncate:
			line += fmt.Sprintf(" %d", c.size)
		}
		if e, ok := c.err.(*fs.PathError); ok {
			line += ": " + e.Err.Error()
		}
		lines[i] = line
	}
	return lines
}

// ClearTrace forgets the trace so far.
func (f *FS) ClearTrace() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trace = nil
}

// Written makes record see every byte that is written, with the name of the
// file at that time. It must not call back. Disks after a crash keep it.
func (f *FS) Written(record func(name string, p []byte)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.written = record
}

// Hook makes before run ahead of every call; it may block, as a slow disk
// does. Disks after a crash keep it.
func (f *FS) Hook(before func(op Op, name string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = before
}

// Budget is how many bytes the tree may hold: beyond it writes are short and
// fail with vfs.ErrNoSpace. A negative number lifts the limit.
func (f *FS) Budget(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.budget = bytes
}

// Used is how many bytes the tree holds.
func (f *FS) Used() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.root.used()
}

func (d *dir) used() (sum int64) {
	for _, n := range d.live {
		if n.dir != nil {
			sum += n.dir.used()
		} else {
			sum += int64(len(n.file.live))
		}
	}
	return sum
}
