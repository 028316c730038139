package race

import "testing"

// Heavy marks a test of much work in one order: the race detector sees nothing
// in it that it does not see in smaller ones. Without it, such tests run side by
// side.
func Heavy(t *testing.T) {
	t.Helper()
	if Enabled {
		t.Skip("heavy: not under the race detector")
	}
	t.Parallel()
}
