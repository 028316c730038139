//go:build unix

package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"

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
			records = append(records, engine.Record{ID: strconv.Itoa(row), Embedding: x.set.Base[row], Metadata: metadata})
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
	found, err := x.records.Query(ctx, query, serve.K, &x.options)
	if err != nil {
		return 0, err
	}
	for i, m := range found {
		row, err := strconv.Atoi(m.ID) // less of a query than ParseUint
		if err != nil {
			return 0, err
		}
		out[i] = uint32(row)
	}
	return len(found), nil
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
