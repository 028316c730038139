package fuzz

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
	"github.com/chromad/chromad/wal"
)

// opened is a store as somebody sees it who has its keys: what the files hold,
// not how it is stored. Its parts can be changed and sealed again.
type opened struct {
	s      damaged
	keys   seal.Keys
	store  seal.ID
	kept   image // files that are not taken apart: keys
	files  []openedFile
	log    []wal.Entry // payloads of records and edits without their envelopes
	sealed []envelope  // of each entry; the zero one has none
}

// openedFile is a file of the common form.
type openedFile struct {
	name     string
	header   disk.Header
	root     uint64
	sections []section
}

type section struct {
	kind      uint16
	blockSize int
	bytes     []byte
}

// envelope is what is in front of a sealed entry (docs/format/entry.md).
type envelope struct {
	front []byte
	at    seal.Address
	s     seal.Sealer
}

const envelopeFront = 1 + 16 + 4 + 16

// unseal takes a store apart.
func (s damaged) unseal(f *testing.F) *opened {
	dir := scratch(f)
	place(f, dir, s.files)
	root, err := vfs.Open(dir)
	must(f, err)
	f.Cleanup(func() { must(f, root.Close()) })
	o := &opened{s: s, keys: seal.Plain(), kept: image{}}
	if s.key != nil {
		ring, err := keys.Open(ctx, root, seal.ID{}, s.key, true)
		must(f, err)
		o.keys, o.store = ring, ring.Store()
	}
	for _, name := range s.names {
		switch {
		case strings.HasPrefix(name, "keys/"):
			o.kept[name] = s.files[name]
		case !strings.HasPrefix(name, "log/"):
			o.files = append(o.files, readSections(f, root, name, o.keys))
		}
	}
	o.readLog(f, root)
	// Put together without a change it is the same store.
	again := scratch(f)
	place(f, again, o.reseal(f))
	db, err := engine.Open(again, &engine.Options{Keys: s.key, ReadOnly: true})
	must(f, err)
	must(f, fits(readAll(db), s.cuts[len(s.cuts)-1:]))
	must(f, db.Close())
	return o
}

func readSections(f *testing.F, fs vfs.FS, name string, k seal.Keys) openedFile {
	h, err := disk.ReadHeader(fs, name)
	must(f, err)
	file, err := disk.OpenFile(fs, name, h, disk.Info{}, k)
	must(f, err)
	defer file.Close()
	out := openedFile{name: name, header: h, root: file.Info().Root}
	kinds := file.Kinds()
	slices.SortFunc(kinds, func(a, b uint16) int {
		x, _ := file.Section(a)
		y, _ := file.Section(b)
		return cmp.Compare(x.Offset(), y.Offset())
	})
	for _, kind := range kinds {
		s, _ := file.Section(kind)
		b, err := s.Bytes(0, s.Len())
		must(f, err)
		out.sections = append(out.sections, section{kind, s.BlockSize(), bytes.Clone(b)})
	}
	return out
}

func (o *opened) readLog(f *testing.F, fs vfs.FS) {
	if o.store == (seal.ID{}) {
		h, err := disk.ReadHeader(fs, o.s.tail)
		must(f, err)
		o.store = h.Store
	}
	options := wal.Options{Store: o.store, Keys: o.keys, ReadOnly: true}
	for e, err := range wal.Salvage(fs, wal.Position{}, options) {
		must(f, err)
		e.Payload = bytes.Clone(e.Payload)
		var v envelope
		if e.Payload[0]&0x80 != 0 {
			v.front = e.Payload[:envelopeFront:envelopeFront]
			v.at = seal.Address{Store: o.store, Collection: seal.ID(e.Payload[1:17]), File: seal.ID(e.Payload[21:37]), Kind: seal.KindEntry, Version: 1}
			var err error
			v.s, err = o.keys.Reader(v.at, binary.LittleEndian.Uint32(e.Payload[17:]))
			must(f, err)
			e.Payload, err = v.s.Open(nil, e.Payload[envelopeFront:], v.at, v.front[:1])
			must(f, err)
		}
		o.log, o.sealed = append(o.log, e), append(o.sealed, v)
	}
}

// change returns the store with one part changed, a section of a file or an
// entry of the log, and with the names of files that others know them by.
func (o *opened) change(tb testing.TB, file, part byte, how byte, offset uint32, data []byte) *opened {
	out := *o
	out.files, out.log = slices.Clone(o.files), slices.Clone(o.log)
	i := int(file) % (len(o.files) + 1)
	if i == len(o.files) {
		if len(out.log) > 0 {
			e := &out.log[int(part)%len(out.log)]
			e.Payload = altered(e.Payload, how, offset, data)
		}
		return &out
	}
	changed := &out.files[i]
	changed.sections = slices.Clone(changed.sections)
	s := &changed.sections[int(part)%len(changed.sections)]
	s.bytes = altered(s.bytes, how%2, offset, data)
	was := changed.root
	changed.root = rootOf(out.fileBytes(tb, *changed))
	out.rename(tb, was, changed.root)
	return &out
}

// altered is damage of one part.
func altered(b []byte, how byte, offset uint32, data []byte) []byte {
	d := damage{file: "part", how: how % 4, offset: offset, data: data}
	return d.apply(image{"part": b})["part"]
}

// rename puts a root in the place of another wherever it stands. What names
// segments has no name of its own.
func (o *opened) rename(tb testing.TB, was, is uint64) {
	old, now := binary.LittleEndian.AppendUint64(nil, was), binary.LittleEndian.AppendUint64(nil, is)
	for i := range o.log {
		o.log[i].Payload = bytes.ReplaceAll(o.log[i].Payload, old, now)
	}
	for i := range o.files {
		f := &o.files[i]
		f.sections = slices.Clone(f.sections)
		for j := range f.sections {
			f.sections[j].bytes = bytes.ReplaceAll(f.sections[j].bytes, old, now)
		}
	}
}

// rootOf is the root in the footer of a file.
func rootOf(b []byte) uint64 { return binary.LittleEndian.Uint64(b[len(b)-16:]) }

// reseal puts the store together.
func (o *opened) reseal(tb testing.TB) image {
	tb.Helper()
	im := maps.Clone(o.kept)
	for _, f := range o.files {
		im[f.name] = o.fileBytes(tb, f)
	}
	if len(o.log) == 0 {
		for _, name := range o.s.names {
			if strings.HasPrefix(name, "log/") {
				im[name] = o.s.files[name]
			}
		}
		return im
	}
	fs := faultfs.New(1)
	first, last := o.log[0].Position, o.log[len(o.log)-1].Position
	l, err := wal.Open(fs, wal.Position{Epoch: 1, Seq: 1}, wal.Options{Store: o.store, Keys: o.keys, Epoch: last.Epoch})
	must(tb, err)
	for _, err := range l.Replay() {
		must(tb, err)
	}
	for range first.Seq - 1 { // a log begins with the first entry; these are released, and nobody reads them
		_, err := l.Commit(ctx, []byte{0})
		must(tb, err)
	}
	for i, e := range o.log {
		b := e.Payload
		if v := o.sealed[i]; v.s != nil {
			b, err = v.s.Seal(v.front, b, v.at, v.front[:1])
			must(tb, err)
		}
		_, err := l.Commit(ctx, b)
		must(tb, err)
	}
	must(tb, l.Close())
	for _, name := range fs.Files() {
		im[name], err = fs.Content(name)
		must(tb, err)
	}
	return im
}

func (o *opened) fileBytes(tb testing.TB, f openedFile) []byte {
	tb.Helper()
	fs := faultfs.New(1)
	_, err := disk.WriteFile(fs, f.name, f.header, o.keys, func(w *disk.Writer) error {
		for _, s := range f.sections {
			if err := w.Section(s.kind, s.blockSize); err != nil {
				return err
			}
			if _, err := w.Write(s.bytes); err != nil {
				return err
			}
		}
		return nil
	})
	must(tb, err)
	b, err := fs.Content(f.name)
	must(tb, err)
	return b
}
