package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/segment"
	"github.com/chromad/chromad/wal"
)

// Inspection is what the files of a store show. Of an encrypted store without
// its keys that is what headers and names of files tell.
type Inspection struct {
	Store       string           `json:"store"`
	Generation  uint64           `json:"generation"` // number of the newest checkpoint
	Encrypted   bool             `json:"encrypted"`
	OperatorKey string           `json:"operator_key,omitempty"` // its URI
	Readable    bool             `json:"readable"`               // the keys are there, or none are needed
	Sizes       []DirectorySize  `json:"sizes"`
	Collections []CollectionView `json:"collections"`
	Checkpoints []FileView       `json:"checkpoints"`
	Segments    []SegmentView    `json:"segments"`
	Log         []LogView        `json:"log"`
	Problems    []string         `json:"problems"` // why something is not shown; check tells more
}

// DirectorySize is how much a directory of the store holds.
type DirectorySize struct {
	Directory string `json:"directory"`
	Files     int    `json:"files"`
	Bytes     int64  `json:"bytes"`
}

// CollectionView is a collection as checkpoint and log have it.
type CollectionView struct {
	ID          string   `json:"id"`
	Tenant      string   `json:"tenant"`
	Database    string   `json:"database"`
	Name        string   `json:"name"`
	Metric      string   `json:"metric"`
	Dimension   int      `json:"dimension"`
	Records     int      `json:"records"`
	InLog       int      `json:"in_log"` // records that are in the log and in no segment
	Segments    []uint64 `json:"segments"`
	Bytes       int64    `json:"bytes"`
	Generations []uint32 `json:"key_generations,omitempty"`
	ExpiresBy   string   `json:"expires_by,omitempty"`      // key of its retention
	Default     int64    `json:"default_seconds,omitempty"` // and what new records get
	HeldSince   string   `json:"held_since,omitempty"`      // when it was put under legal hold
}

// FileView is the identity of a file.
type FileView struct {
	Name   string `json:"name"`
	Number uint64 `json:"number"`
	Bytes  int64  `json:"bytes"`
	File   string `json:"file,omitempty"`
	Key    uint32 `json:"key"` // generation, 0: not encrypted
}

// SegmentView is a segment. Rows and sections are known when it can be read.
type SegmentView struct {
	FileView
	Collection string        `json:"collection"`
	Of         string        `json:"of,omitempty"` // name of the collection; empty: no collection has it
	Rows       int           `json:"rows"`
	Dead       int           `json:"dead"`
	FirstOrder uint64        `json:"first_order"`
	LastOrder  uint64        `json:"last_order"`
	Index      *IndexView    `json:"index,omitempty"` // none: too few rows, or it cannot be read
	Sections   []SectionView `json:"sections"`
}

// IndexView is what a segment's index is.
type IndexView struct {
	M         int   `json:"m"`
	CodeBits  int   `json:"code_bits"`  // of a number in a code; 32: there are none, searches walk over the vectors
	CodeBytes int   `json:"code_bytes"` // of a row
	Bytes     int64 `json:"bytes"`      // of codes and links: what a search needs in memory
}

// SectionView is a section of a segment.
type SectionView struct {
	Name      string `json:"name"`
	Kind      uint16 `json:"kind"`
	Offset    int64  `json:"offset"`
	Bytes     int64  `json:"bytes"` // before encryption
	Blocks    int    `json:"blocks"`
	BlockSize int    `json:"block_size"`
}

// LogView is a file of the log.
type LogView struct {
	FileView
	Epoch  uint64         `json:"epoch"`
	First  uint64         `json:"first"` // sequence number of its first entry
	Frames []FrameView    `json:"frames"`
	Kinds  map[string]int `json:"kinds"` // entries by what they are
}

// FrameView is a frame: the entries of one sync.
type FrameView struct {
	Offset  int64          `json:"offset"`
	Bytes   int64          `json:"bytes"`
	Index   uint64         `json:"index"`
	First   uint64         `json:"first"`
	Entries int            `json:"entries"`
	Kinds   map[string]int `json:"kinds"`
}

// Field is a field of a file, as docs/format draws it.
type Field struct {
	Offset  int64  `json:"offset"`
	Hex     string `json:"hex"`
	Name    string `json:"name"`
	Meaning string `json:"meaning"`
}

// Inspect shows what the files of the store in dir are. It changes nothing and
// takes no lock: of a store that somebody has open, files may go meanwhile. It
// does not judge: Check does.
func Inspect(ctx context.Context, dir string, opts *Options) (*Inspection, error) {
	in, err := glance(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	defer in.close()
	v := &Inspection{
		Sizes: []DirectorySize{}, Collections: []CollectionView{}, Checkpoints: []FileView{}, Segments: []SegmentView{}, Log: []LogView{}, Problems: []string{},
	}
	if err := in.show(ctx, v); err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	return v, nil
}

// InspectFile cuts header, table and frames of one file of the store into
// fields. name is below dir, as Inspection gives it.
func InspectFile(_ context.Context, dir string, opts *Options, name string) ([]Field, error) {
	in, err := glance(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	defer in.close()
	var fields []disk.Field
	if number, ours := disk.Number(strings.TrimPrefix(name, "log/"), ".wal"); ours {
		fields, err = wal.Fields(in.db.fs, number, in.logOptions())
	} else {
		section := func(kind uint16) string { return "catalog" }
		if strings.HasPrefix(name, segmentDir+"/") {
			section = segment.SectionName
		}
		fields, err = disk.FileFields(in.db.fs, name, section)
	}
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	out := make([]Field, len(fields))
	for i, f := range fields {
		out[i] = Field{Offset: f.Offset, Hex: fmt.Sprintf("%x", f.Bytes), Name: f.Name, Meaning: f.Meaning}
	}
	return out, nil
}

// glance is look without lock and, when they are missing, without keys.
func glance(dir string, opts *Options) (*inspection, error) {
	in, err := prepare(dir, opts)
	if err != nil {
		return nil, err
	}
	if err := in.isStore(); err != nil {
		return nil, errors.Join(err, in.close())
	}
	if err := in.openKeys(); errors.Is(err, ErrKey) {
		in.broken = err
	} else if err != nil {
		return nil, errors.Join(err, in.close())
	}
	return in, nil
}

func (in *inspection) show(ctx context.Context, v *Inspection) error {
	db := in.db
	err := in.load()
	if err != nil && !errors.Is(err, ErrKey) && !isNotExist(err) {
		return err
	}
	for _, err := range []error{err, in.broken, in.log} {
		if err != nil {
			v.Problems = append(v.Problems, err.Error())
		}
	}
	v.Store, v.Encrypted, v.Readable = db.store.String(), in.encrypted, !in.encrypted || db.ring != nil
	if in.encrypted {
		if set, err := keys.Inspect(db.fs); err == nil {
			v.OperatorKey = set.URI
		}
	}
	for _, part := range []func(context.Context, *Inspection) error{in.showSizes, in.showCollections, in.showCheckpoints, in.showSegments, in.showLog} {
		if err := part(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

func (in *inspection) showSizes(_ context.Context, v *Inspection) error {
	for _, dir := range []string{checkpointDir, segmentDir, "log", keys.Dir, auditDir, auditLogDir, disk.TmpDir} {
		infos, err := in.db.fs.List(dir)
		if isNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		s := DirectorySize{Directory: dir}
		for _, i := range infos {
			s.Files++
			s.Bytes += i.Size
		}
		v.Sizes = append(v.Sizes, s)
	}
	return nil
}

func (in *inspection) showCollections(_ context.Context, v *Inspection) error {
	if !in.found {
		return nil
	}
	generations := map[ID][]uint32{}
	if in.db.ring != nil {
		for id, g := range in.db.ring.Collections() {
			generations[ID(id)] = slices.Clone(g)
		}
	}
	for _, c := range in.db.byName() {
		s := c.state.Load()
		cv := CollectionView{
			ID: c.id.String(), Tenant: c.tenant, Database: c.database, Name: c.name, Metric: c.spec.Load().Metric.String(),
			Dimension: s.dimension, Records: s.live, InLog: s.rows, Segments: []uint64{}, Generations: generations[c.id],
		}
		if k := c.keep.Load(); k != nil {
			cv.ExpiresBy, cv.Default = k.key, k.grace
			if k.held {
				cv.HeldSince = showTime(k.since)
			}
		}
		for _, seg := range c.manifest.segments {
			cv.Segments = append(cv.Segments, seg.info.Number)
			cv.Bytes += seg.info.Length
		}
		v.Collections = append(v.Collections, cv)
	}
	return nil
}

// file reads the identity of a file; what is wrong with it becomes a problem.
func (in *inspection) file(v *Inspection, dir, suffix string, number uint64) (FileView, disk.Header) {
	f := FileView{Name: disk.Name(dir, number, suffix), Number: number}
	if st, err := in.db.fs.Stat(f.Name); err == nil {
		f.Bytes = st.Size
	}
	h, err := disk.ReadHeader(in.db.fs, f.Name)
	if err != nil {
		v.Problems = append(v.Problems, err.Error())
		return f, h
	}
	f.File, f.Key = h.File.String(), h.KeyID
	return f, h
}

func (in *inspection) showCheckpoints(_ context.Context, v *Inspection) error {
	numbers, err := numberedFiles(in.db.fs, checkpointDir, checkpointSuffix)
	for _, n := range numbers {
		f, _ := in.file(v, checkpointDir, checkpointSuffix, n)
		v.Checkpoints = append(v.Checkpoints, f)
		v.Generation = n
	}
	return err
}

func (in *inspection) showSegments(ctx context.Context, v *Inspection) error {
	named := map[uint64]*Collection{}
	states := map[uint64]segmentState{}
	for _, c := range in.db.all() {
		for _, s := range c.manifest.segments {
			named[s.info.Number], states[s.info.Number] = c, s
		}
	}
	numbers, err := numberedFiles(in.db.fs, segmentDir, segmentSuffix)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f, h := in.file(v, segmentDir, segmentSuffix, n)
		s := SegmentView{FileView: f, Sections: []SectionView{}, Collection: ID(h.Collection).String()}
		if c := named[n]; c != nil {
			s.Of, s.Dead = c.name, int(states[n].dead.GetCardinality())
		}
		in.showSections(v, &s, h)
		v.Segments = append(v.Segments, s)
	}
	return nil
}

func (in *inspection) showSections(v *Inspection, s *SegmentView, h disk.Header) {
	if s.File == "" || in.encrypted && in.db.ring == nil {
		return
	}
	spec := segment.Spec{Store: h.Store, Collection: h.Collection, Number: s.Number, File: h.File}
	r, err := segment.Open(in.db.fs, in.db.keys, spec, segment.Info{})
	if err != nil {
		v.Problems = append(v.Problems, err.Error())
		return
	}
	defer r.Close()
	s.Rows = r.Rows()
	s.FirstOrder, s.LastOrder = r.Orders()
	index, found, err := r.Index()
	if err != nil {
		v.Problems = append(v.Problems, err.Error())
	}
	if found {
		s.Index = &IndexView{M: index.M, CodeBits: index.Bits, CodeBytes: index.CodeBytes}
	}
	for _, p := range r.Parts() {
		if s.Index != nil && segment.SectionName(p.Kind) == "graph" {
			s.Index.Bytes = p.Length
		}
		s.Sections = append(s.Sections, SectionView{
			Name: segment.SectionName(p.Kind), Kind: p.Kind, Offset: p.Offset, Bytes: p.Length, Blocks: p.Blocks, BlockSize: p.BlockSize,
		})
	}
}

// kindNames are what entries of the log are.
var kindNames = map[op]string{
	opCreateTenant: "create tenant", opSetTenant: "set tenant", opCreateDatabase: "create database", opDeleteDatabase: "delete database",
	opCreateCollection: "create collection", opModifyCollection: "modify collection", opDeleteCollection: "delete collection",
	opReset: "reset", opSet: "set", opWrite: "write", opDelete: "delete records", opWriteUnder: "write under a rule", opEdit: "edit of files",
	opKeep: "retention or hold", opWriteOn: "write on terms", opExpire: "expire records",
}

func (in *inspection) showLog(ctx context.Context, v *Inspection) error {
	o := in.logOptions()
	for f, err := range wal.Files(in.db.fs, o) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l := LogView{
			FileView: FileView{Name: f.Name, Number: f.Number, Bytes: f.Size, Key: f.KeyID}, Epoch: f.Begin.Epoch, First: f.Begin.Seq,
			Frames: []FrameView{}, Kinds: map[string]int{},
		}
		if err != nil {
			l.FileView, _ = in.file(v, "log", ".wal", f.Number)
			v.Problems = append(v.Problems, err.Error())
		} else {
			l.File = f.ID.String()
			in.showFrames(v, &l, o)
		}
		v.Log = append(v.Log, l)
	}
	return nil
}

func (in *inspection) showFrames(v *Inspection, l *LogView, o wal.Options) {
	for f, err := range wal.Frames(in.db.fs, l.Number, o) {
		if err != nil {
			v.Problems = append(v.Problems, err.Error())
			return
		}
		fv := FrameView{Offset: f.Offset, Bytes: f.Bytes, Index: f.Index, First: f.First.Seq, Entries: f.Count, Kinds: map[string]int{}}
		for e := range f.Entries() {
			kind := "empty"
			if len(e.Payload) > 0 {
				o := op(e.Payload[0]).plain()
				kind = cmp.Or(kindNames[o], fmt.Sprintf("unknown %d", o))
			}
			fv.Kinds[kind]++
			l.Kinds[kind]++
		}
		l.Frames = append(l.Frames, fv)
	}
}

// KindsText is entries by kind in one line, sorted.
func KindsText(kinds map[string]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		parts = append(parts, fmt.Sprintf("%d %s", kinds[k], k))
	}
	return strings.Join(parts, ", ")
}
