package fuzz

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"

	"github.com/chromad/chromad/engine"
)

var ctx = context.Background()

// model is a collection as a plain list, in the order of first insertion.
type model struct {
	metric  engine.Metric
	records []engine.Record
}

func (m *model) find(id string) int {
	return slices.IndexFunc(m.records, func(r engine.Record) bool { return r.ID == id })
}

func (m *model) add(recs ...engine.Record) {
	for _, r := range recs {
		if m.find(r.ID) < 0 {
			r.Metadata = merged(nil, r.Metadata)
			m.records = append(m.records, r)
		}
	}
}

func (m *model) upsert(recs ...engine.Record) {
	for _, r := range recs {
		if m.find(r.ID) < 0 {
			m.add(r)
		} else {
			m.update(r)
		}
	}
}

func (m *model) update(recs ...engine.Record) {
	for _, r := range recs {
		i := m.find(r.ID)
		if i < 0 {
			continue
		}
		old := &m.records[i]
		if r.Embedding != nil {
			old.Embedding = r.Embedding
		}
		if r.Document != nil {
			old.Document = r.Document
		}
		if r.URI != nil {
			old.URI = r.URI
		}
		old.Metadata = merged(old.Metadata, r.Metadata)
	}
}

func merged(old, change engine.Metadata) engine.Metadata {
	out := engine.Metadata{}
	maps.Copy(out, old)
	for k, v := range change {
		out[k] = v
		if v.IsNull() {
			delete(out, k)
		}
	}
	return out
}

// get selects records as Collection.Get does.
func (m *model) get(sel engine.Selection) []engine.Record {
	var out []engine.Record
	for _, r := range m.records {
		if (sel.IDs == nil || slices.Contains(sel.IDs, r.ID)) && sel.Where.Match(r.Metadata, r.Document) {
			out = append(out, r)
		}
	}
	out = out[min(sel.Offset, len(out)):]
	if sel.Limit > 0 {
		out = out[:min(sel.Limit, len(out))]
	}
	return out
}

func (m *model) delete(sel engine.Selection) int {
	if sel.IDs == nil && sel.Where == nil {
		return 0
	}
	gone := m.get(sel)
	m.records = slices.DeleteFunc(slices.Clone(m.records), func(r engine.Record) bool {
		return slices.ContainsFunc(gone, func(g engine.Record) bool { return g.ID == r.ID })
	})
	return len(gone)
}

// nearest is the distances of the k nearest of the selected records, by id
// and as an ascending list.
func (m *model) nearest(q []float32, k int, sel engine.Selection) (byID map[string]float64, best []float64) {
	byID = map[string]float64{}
	for _, r := range m.get(sel) {
		d := distance(m.metric, q, r.Embedding)
		byID[r.ID] = d
		best = append(best, d)
	}
	slices.SortFunc(best, cmp.Compare)
	return byID, best[:min(k, len(best))]
}

// distance is the definition, in double precision.
func distance(metric engine.Metric, a, b []float32) float64 {
	var dot, aa, bb, l2 float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot, aa, bb, l2 = dot+x*y, aa+x*x, bb+y*y, l2+(x-y)*(x-y)
	}
	switch {
	case metric == engine.L2:
		return l2
	case metric == engine.IP:
		return 1 - dot
	case aa == 0 || bb == 0:
		return 1
	}
	return 1 - dot/math.Sqrt(aa*bb)
}

// near tells whether a distance is the one computed in double precision.
func near(got float32, want float64) bool {
	return math.Abs(float64(got)-want) <= 1e-5*max(1, math.Abs(want))
}
