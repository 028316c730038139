//go:build !unix

package main

import (
	"testing"
	"time"
)

var began = time.Now()

// cpu is the time of the clock where that of the processor is not to be had.
func cpu(*testing.B) time.Duration { return time.Since(began) }
