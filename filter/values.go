package filter

import "context"

// Values calls visit with each value that rows have under key, and with these
// rows, which are visit's for the time of the call: kind by kind, ascending. Of
// a list each element comes, with the list's kind. An error of visit ends it.
// Errors are ErrCorrupt, the source's, or the context's.
func (ix *Index) Values(ctx context.Context, key string, visit func(kind Kind, v Value, rows []uint32) error) error {
	var g gather
	for kind := KindBool; kind <= KindStrings; kind++ {
		f, found, err := ix.field(key, kind)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		for i := range f.values {
			if i%1024 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			v, err := ix.value(f, i)
			if err != nil {
				return err
			}
			g.rows, g.bm = g.rows[:0], nil
			if err := ix.add(&g, f, i, i+1); err != nil {
				return err
			}
			if g.bm != nil {
				g.rows = append(g.rows, g.bm.ToArray()...)
			}
			if err := visit(kind, v, g.rows); err != nil {
				return err
			}
		}
	}
	return nil
}
