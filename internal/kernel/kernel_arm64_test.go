//go:build !purego

package kernel

import (
	"flag"
	"testing"
)

var best = flag.String("kernel.best", "", "the form that this processor is known to run best")

// TestSupported wants the form that whoever emulates a processor knows it to
// have: otherwise a form that is never chosen is never tested.
func TestSupported(t *testing.T) {
	names := ""
	list := supported()
	for _, f := range list {
		names += f.name + " "
	}
	if names != "neon armv8 generic " && names != "armv8 generic " {
		t.Errorf("forms: %s", names)
	}
	if *best != "" && list[0].name != *best {
		t.Errorf("the best form is %s, want %s", list[0].name, *best)
	}
}
