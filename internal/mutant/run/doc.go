// Run demands that the suites find every planted bug of package mutant. It
// builds the test binaries once with the tag mutants, runs the listed tests as
// they are, which must pass, and then with each mutant, which must fail.
package main
