package main

import (
	"errors"
	"fmt"
	"time"
)

// within is a time that may be off: negative.
type within struct {
	time.Duration
	least time.Duration
}

// String implements flag.Value.
func (w within) String() string {
	if w.Duration < 0 {
		return "off"
	}
	return w.Duration.String()
}

// Set implements flag.Value.
func (w *within) Set(text string) error {
	if text == "off" {
		w.Duration = -1
		return nil
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return errors.New("a time like 24h, 90m or 10s, or off")
	case d < w.least:
		return fmt.Errorf("at least %s, or off", w.least)
	}
	w.Duration = d
	return nil
}
