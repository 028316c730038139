package segment

import (
	"context"
	"errors"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/disk"
)

// Filter is the set of rows that e is true for, dead ones included. A nil
// expression is true for every row.
func (r *Reader) Filter(ctx context.Context, e *filter.Expr) (rows *roaring.Bitmap, err error) {
	err = r.guard(func() error {
		if e == nil {
			rows = roaring.New()
			rows.AddRange(0, uint64(r.rows))
			return nil
		}
		key, ok := e.Key()
		at := cacheKey{file: r.documents.file, where: key}
		if ok {
			if rows = r.documents.shared.rows(at); rows != nil {
				return ctx.Err()
			}
		}
		if rows, err = r.filtered(ctx, e); ok && err == nil {
			r.documents.shared.putRows(at, rows)
		}
		return err
	})
	return rows, err
}

// filtered asks the index, or every row when the index is damaged.
func (r *Reader) filtered(ctx context.Context, e *filter.Expr) (*roaring.Bitmap, error) {
	damage := r.badFilter.get()
	if damage == nil {
		rows, err := r.indexed(ctx, e)
		if !errors.Is(err, disk.ErrCorrupt) {
			return rows, err
		}
		damage = err
	}
	rows, err := r.scan(ctx, e)
	if errors.Is(err, disk.ErrCorrupt) {
		return nil, damage // it was not, or not only, the index
	}
	if err == nil {
		r.badFilter.set(damage)
	}
	return rows, err
}

func (r *Reader) indexed(ctx context.Context, e *filter.Expr) (*roaring.Bitmap, error) {
	ix, err := r.filterIndex(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := ix.Eval(ctx, e, r.documents.again)
	return rows, r.indexDamage(err)
}

// indexDamage makes the filter's finding one of this file.
func (r *Reader) indexDamage(err error) error {
	if !errors.Is(err, filter.ErrCorrupt) {
		return err
	}
	s, _ := r.file.Section(sectionFilter)
	return damaged(s, 0, "%w", err)
}

func (r *Reader) filterIndex(ctx context.Context) (*filter.Index, error) {
	return r.index.get(ctx, func() (*filter.Index, error) {
		s, ok := r.file.Section(sectionFilter)
		if !ok {
			return nil, &disk.CorruptError{Err: errors.New("no filter index")}
		}
		ix, err := filter.OpenIndex(s, r.rows)
		if err != nil {
			return nil, r.indexDamage(err)
		}
		return ix, nil
	})
}
