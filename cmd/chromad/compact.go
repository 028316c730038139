package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/admin"
	"github.com/chromad/chromad/server/audit"
)

func compactCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("compact", "PATH", `Merge every collection into one segment, and give the space of deleted records back.
With --erase-now: only what is needed for no file to hold a byte of what was deleted.`, `
Examples:

  chromad compact /var/lib/chroma                            while a server runs: it does the work, reads and writes go on
  chromad compact /var/lib/chroma --keys /etc/chromad/key    an encrypted store, without one
  chromad compact /var/lib/chroma --erase-now                what was deleted, updated or overwritten leaves the files now

Without a server nothing is deleted that has expired, and so nothing of it erased: a legal hold may be on its way.

chromad run erases by itself within --erase-within; chromad receipts shows what was erased from encrypted stores.
Free blocks of the disk, snapshots, copies and backups are out of reach: docs/security.md.

A store compacts itself as it is used; this is for when the space is wanted now. It needs room for the largest
collection once more. Ctrl-C stops the work, or where a server does it only the watching; either is no harm.
`)
	flags := newChangeFlags(p)
	now := p.Bool("erase-now", false, "erase what was deleted, and merge no more than that takes")
	asJSON := p.Bool("json", false, "print progress as JSON lines on standard output")
	path, err := p.readPath(args)
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	what, work := "compacting", compact
	if *now {
		what, work = "erasing", eraseNow
	}
	show := newProgress(what, *asJSON, stdout, stderr)
	said, err := work(ctx, path, flags, show)
	show.end(err, said)
	if err != nil {
		return p.fail(err, stderr)
	}
	return exitOK
}

// space is what a compaction changes.
type space struct {
	segments int
	bytes    int64
}

func compact(ctx context.Context, path string, flags *changeFlags, show *progress) (said string, err error) {
	db, server, err := flags.reach(ctx, path)
	if err != nil {
		return "", err
	}
	var before, after space
	if server != nil {
		if before, err = spaceOf(ctx, server); err == nil {
			err = watched(ctx, server.Compact(ctx, show.show))
		}
		if err == nil {
			after, err = spaceOf(ctx, server)
		}
	} else {
		before = spaceIn(db)
		show.show(admin.Line{Event: admin.Began})
		err = offlineAct(ctx, db, audit.Event{Action: "store:compact"}, db.Compact(ctx))
		after = spaceIn(db)
		err = interrupted(ctx, errors.Join(err, db.Close()))
	}
	return fmt.Sprintf("%s: %s in %s before, %s in %s now (%s)", path, bytesText(before.bytes), counted(before.segments, "segment"),
		bytesText(after.bytes), counted(after.segments, "segment"), show.took()), err
}

func spaceOf(ctx context.Context, server *admin.Client) (space, error) {
	s, err := server.Status(ctx)
	return space{s.Segments, s.SegmentBytes}, err
}

func spaceIn(db *engine.DB) space {
	s := db.Stats()
	return space{s.Segments, s.SegmentBytes}
}
