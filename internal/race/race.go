//go:build race

package race

// Enabled: the race detector runs.
const Enabled = true
