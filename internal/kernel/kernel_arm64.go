//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

// supported lists the forms that this processor can run, the best first.
// Every one has NEON; the dot product of bytes came with ARMv8.2, where it
// was optional, and is missing on a Cortex-A72 and before.
func supported() []form {
	list := []form{{"armv8", floatNEON, hopMul, buildMul, codecNEON}, generic}
	if cpu.ARM64.HasASIMDDP {
		list = append([]form{{"neon", floatNEON, hopDot, buildDot, codecNEON}}, list...)
	}
	return list
}
