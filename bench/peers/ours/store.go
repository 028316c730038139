//go:build unix

package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/chromad/chromad/bench/peers/serve"
	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
)

// store is a collection of an embedded store, flushed and merged into one
// segment.
type store struct {
	db      *engine.DB
	records *engine.Collection
	set     *serve.Set
	options engine.QueryOptions
	dir     string
	bare    *graph // of the one segment, once it was opened
	inside  *graph // the same, when searches go there
	query   [1][]float32
	found   []uint32
	see     func(int, *engine.Match) error
}

const batch = 1000

func (x *store) open(ctx context.Context, s *serve.Set, name string, o engine.Options) (err error) {
	x.set, x.dir = s, filepath.Join(s.Work, name)
	if x.db, err = engine.Open(x.dir, &o); err != nil {
		return err
	}
	metric := engine.L2
	if s.Metric == "cosine" {
		metric = engine.Cosine
	}
	x.see = func(_ int, m *engine.Match) error {
		x.found = append(x.found, rowOf(m.ID))
		return nil
	}
	x.records, err = x.db.Default().Create(ctx, "bench", engine.Spec{Metric: metric})
	return err
}

// add stores the rows from first to limit.
func (x *store) add(ctx context.Context, first, limit int) error {
	for ; first < limit; first += batch {
		var records []engine.Record
		for row := first; row < min(first+batch, limit); row++ {
			metadata := engine.Metadata{}
			for name, values := range x.set.Columns {
				metadata[name] = filter.Int(int64(values[row]))
			}
			records = append(records, engine.Record{ID: idOf(row), Embedding: x.set.Base[row], Metadata: metadata})
		}
		if err := x.records.Add(ctx, records...); err != nil {
			return err
		}
	}
	return nil
}

func (x *store) Build(ctx context.Context, s *serve.Set) error {
	if err := x.open(ctx, s, "store", engine.Options{Workers: 1}); err != nil {
		return err
	}
	if err := x.add(ctx, 0, s.Rows); err != nil {
		return err
	}
	return errors.Join(x.db.Flush(ctx), x.db.Compact(ctx))
}

func (x *store) Search(ctx context.Context, query []float32, ef int, out []uint32) (int, error) {
	if x.inside != nil {
		return x.inside.Search(ctx, query, ef, out)
	}
	x.options.EF = ef
	x.found, x.query[0] = out[:0], query
	err := x.records.QueryEach(ctx, x.query[:], serve.K, &x.options, x.see)
	return len(x.found), err
}

// idOf has six bits of row in each of four letters, so that rowOf is a small part of a
// query.
func idOf(row int) string {
	id := make([]byte, 4)
	for i := range id {
		id[i] = '0' + byte(row>>(18-6*i)&63)
	}
	return string(id)
}

func rowOf(id string) uint32 {
	_ = id[3]
	return uint32(id[0]-'0')<<18 | uint32(id[1]-'0')<<12 | uint32(id[2]-'0')<<6 | uint32(id[3]-'0')
}

func (x *store) Filter(column string, below int) error {
	x.options.Where = nil
	if column != "" {
		x.options.Where = filter.Lt(column, filter.Int(int64(below)))
	}
	return nil
}

func (x *store) Memory() (serve.Memory, error) {
	m := serve.Memory{}
	err := filepath.WalkDir(x.dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			m.Bytes += info.Size()
		}
		return err
	})
	return m, err
}
