// Package types names the types of package kernel that assembly is given
// pointers to, for the signatures of the stubs: the assembler library must
// not depend on the package whose source it writes.
package types

// Hop stands for kernel.Hop; its fields are in hop.go of the generator.
type Hop struct{}
