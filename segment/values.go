package segment

import (
	"context"
	"errors"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/disk"
)

// Values calls visit with what rows have under a metadata key, dead ones
// included, as filter.Index.Values does. Should the index turn out to be
// damaged on the way, it calls begin and has the rows themselves tell, one by one,
// lists whole. begin is called before anything else too.
func (r *Reader) Values(ctx context.Context, key string, begin func(), visit func(kind filter.Kind, v filter.Value, rows []uint32) error) error {
	return r.guard(func() error {
		damage := r.badFilter.get()
		if damage == nil {
			begin()
			err := r.indexedValues(ctx, key, visit)
			if !errors.Is(err, disk.ErrCorrupt) {
				return err
			}
			damage = err
		}
		begin()
		err := r.scanValues(ctx, key, visit)
		if errors.Is(err, disk.ErrCorrupt) {
			return damage // it was not, or not only, the index
		}
		if err == nil {
			r.badFilter.set(damage)
		}
		return err
	})
}

func (r *Reader) indexedValues(ctx context.Context, key string, visit func(filter.Kind, filter.Value, []uint32) error) error {
	ix, err := r.filterIndex(ctx)
	if err != nil {
		return err
	}
	return r.indexDamage(ix.Values(ctx, key, visit))
}

func (r *Reader) scanValues(ctx context.Context, key string, visit func(filter.Kind, filter.Value, []uint32) error) error {
	one := make([]uint32, 1)
	for row := range r.rows {
		if row%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		m, err := r.decodeMetadata(row)
		if err != nil {
			return err
		}
		if v, ok := m[key]; ok {
			one[0] = row
			if err := visit(v.Kind(), v, one); err != nil {
				return err
			}
		}
	}
	return nil
}
