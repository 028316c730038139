package segment

import "context"

// Verify reads every byte of the file and then what the bytes say: each row
// is decoded, each id looked up, the orders ascend, the graph and the filter
// index can be used. It returns the first finding.
func (r *Reader) Verify(ctx context.Context) error {
	// This may take minutes, and looks at no memory that may be evicted.
	err := r.unlessClosed(func() error { return r.file.Verify(ctx) })
	if err != nil {
		return err
	}
	before := r.minOrder
	for row := uint32(0); row < r.rows; row += checkEvery {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err := r.guard(func() (err error) {
			before, err = r.verifyRows(row, min(row+checkEvery, r.rows), before)
			return err
		})
		if err != nil {
			return err
		}
	}
	return r.guard(func() error {
		if before != r.maxOrder {
			return damaged(r.orders, 0, "the last order is %d, not %d", before, r.maxOrder)
		}
		if err := r.verifyText(&r.documents); err != nil {
			return err
		}
		if err := r.verifyText(&r.uris); err != nil {
			return err
		}
		if _, err := r.filterIndex(); err != nil {
			return err
		}
		_, err := r.graph.get(r.decodeGraph)
		return err
	})
}

// verifyRows verifies rows first to end-1, of which the one before has order
// before, and returns the order of the last.
func (r *Reader) verifyRows(first, end uint32, before uint64) (uint64, error) {
	for row := first; row < end; row++ {
		order, err := r.verifyRow(row)
		if err != nil {
			return 0, err
		}
		if row > 0 && order <= before || row == 0 && order != before {
			return 0, damaged(r.orders, int(row)*8, "row %d has order %d after %d", row, order, before)
		}
		before = order
	}
	return before, nil
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
