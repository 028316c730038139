package segment

import "context"

// Verify reads every byte of the file and then what the bytes say: each row
// is decoded, each id looked up, the orders ascend, the graph and the filter
// index can be used. It returns the first finding.
func (r *Reader) Verify(ctx context.Context) error {
	return r.guard(func() error {
		if err := r.file.Verify(ctx); err != nil {
			return err
		}
		if err := r.verifyText(&r.documents); err != nil {
			return err
		}
		if err := r.verifyText(&r.uris); err != nil {
			return err
		}
		before := r.minOrder
		for row := range r.rows {
			if row%checkEvery == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			order, err := r.verifyRow(row)
			if err != nil {
				return err
			}
			if row > 0 && order <= before || row == 0 && order != before {
				return damaged(r.orders, int(row)*8, "row %d has order %d after %d", row, order, before)
			}
			before = order
		}
		if before != r.maxOrder {
			return damaged(r.orders, 0, "the last order is %d, not %d", before, r.maxOrder)
		}
		if _, err := r.filterIndex(); err != nil {
			return err
		}
		_, err := r.graph.get(r.decodeGraph)
		return err
	})
}

func (r *Reader) verifyText(t *text) error {
	if t.ends == nil {
		return nil
	}
	size, err := textEnd(t.ends, r.rows)
	if err == nil && size != t.size {
		err = damaged(t.ends, 0, "%d bytes of text, not %d", size, t.size)
	}
	return err
}

func (r *Reader) verifyRow(row uint32) (order uint64, err error) {
	id, err := r.ids.at(row)
	if err != nil {
		return 0, err
	}
	found, ok, err := r.lookup(string(id))
	if err == nil && (!ok || found != row) {
		err = damaged(r.table, 0, "id %q of row %d leads to row %d (found: %v)", id, row, found, ok)
	}
	if err != nil {
		return 0, err
	}
	if _, err := r.decodeMetadata(row); err != nil {
		return 0, err
	}
	if _, _, err := r.documents.at(row); err != nil {
		return 0, err
	}
	if _, _, err := r.uris.at(row); err != nil {
		return 0, err
	}
	return r.order(row)
}
