//go:build !purego

package kernel

import "testing"

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		forced string
		able   bool
		want   bool
	}{
		{"", true, true}, {"", false, false}, {"generic", true, false}, {"avx2", true, true},
		{"avx2", false, false}, {"sse", true, true}, {"sse", false, false},
	} {
		if got := choose(c.forced, c.able); got != c.want {
			t.Errorf("%q on a processor able %v: %v", c.forced, c.able, got)
		}
	}
}
