// Command gen writes the amd64 kernels of package kernel and their Go stubs,
// one group of kernels at a time. The kernels of a group are in the file of
// its name.
//
// It has a module of its own so that the assembler library never becomes a
// dependency of the database. Run it with `go generate ./internal/kernel`.
package main

import (
	"flag"
	"fmt"
	"os"

	. "github.com/mmcloughlin/avo/build"
)

// groups write one assembly file each.
var groups = map[string]func(){
	"float": floats,
	"hop":   hops,
	"pool":  pools,
	"build": builds,
	"codec": codecs,
}

func main() {
	group := flag.String("group", "", "which kernels to write")
	flag.Parse()
	write := groups[*group]
	if write == nil {
		fmt.Fprintf(os.Stderr, "gen: no group %q\n", *group)
		os.Exit(2)
	}
	ConstraintExpr("!purego")
	Package("github.com/chromad/chromad/internal/kernel/gen/types")
	write()
	Generate()
}
