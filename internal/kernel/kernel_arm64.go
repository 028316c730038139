//go:build !purego

package kernel

// supported lists the forms that this processor can run, the best first.
func supported() []form { return []form{generic} }
