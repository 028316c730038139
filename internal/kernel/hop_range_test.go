package kernel

import (
	"math"
	"slices"
	"testing"
)

// TestAddRange: a range is its rows, one by one, and fits or panics.
func TestAddRange(t *testing.T) {
	const rows = 300
	c := Codes{Data: make([]byte, rows*64), Meta: make([]Meta, rows), Bits: 8, Stride: 64}
	for i := range c.Data {
		c.Data[i] = byte(i * 7)
	}
	for i := range c.Meta {
		c.Meta[i] = Meta{float32(i), 1}
	}
	query := make([]int8, 64)
	for i := range query {
		query[i] = int8(i - 30)
	}
	var one, all Hop
	one.Aim(&c, query, 1, 0, make([]uint64, (rows+63)/64))
	all.Aim(&c, query, 1, 0, make([]uint64, (rows+63)/64))
	one.Add(9)
	all.Add(9)
	for r := range uint32(200) {
		one.Add(50 + r)
	}
	all.AddRange(50, 200)
	all.AddRange(7, 0)
	keys, found := one.Score(math.MaxFloat32)
	keys, found = slices.Clone(keys), slices.Clone(found)
	if k, f := all.Score(math.MaxFloat32); !slices.Equal(k, keys) || !slices.Equal(f, found) || len(f) != 201 {
		t.Errorf("%d rows instead of %d, or others", len(f), len(found))
	}
	defer func() {
		if recover() == nil {
			t.Error("more rows than there is room for")
		}
	}()
	all.AddRange(0, batch+1)
}
