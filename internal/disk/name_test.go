package disk

import (
	"path"
	"testing"
)

// A name is read back, and nothing that is not written so is taken for one:
// it would be removed, or missed, under another name.
func TestNames(t *testing.T) {
	for _, n := range []uint64{1, 0xab, 1<<64 - 1} {
		if got, ours := Number(path.Base(Name("seg", n, ".seg")), ".seg"); got != n || !ours {
			t.Errorf("%d is read as %d, %v", n, got, ours)
		}
	}
	for _, base := range []string{
		"", ".seg", "0000000000000001", "0000000000000001.wal", "0000000000000000.seg", "00000000000000AB.seg",
		"1.seg", "00000000000000001.seg", "+000000000000001.seg", "000000000000000g.seg", "0000000000000001.seg.seg",
	} {
		if n, ours := Number(base, ".seg"); ours {
			t.Errorf("%q is taken for number %d", base, n)
		}
	}
}
