// Package race tells tests whether the race detector runs. It makes them ten
// times as slow, and what is allocated under it says nothing.
package race
