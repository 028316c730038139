//go:build !unix

package engine

import "errors"

func fifo(string) error { return errors.ErrUnsupported }
