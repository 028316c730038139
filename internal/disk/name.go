package disk

import (
	"fmt"
	"strconv"
	"strings"
)

// TmpDir is where files are written before they get their name. What a crash
// leaves there is nobody's.
const TmpDir = "tmp"

// Name is the name of a numbered file: the directory, 16 lower-case
// hexadecimal digits, and the suffix.
func Name(dir string, number uint64, suffix string) string {
	return fmt.Sprintf("%s/%016x%s", dir, number, suffix)
}

// Number reads the number out of the last element of a Name with that suffix.
// Other names are not ours; no file has the number 0.
func Number(base, suffix string) (number uint64, ours bool) {
	digits, ok := strings.CutSuffix(base, suffix)
	if !ok || len(digits) != 16 || strings.ToLower(digits) != digits {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 16, 64)
	return number, err == nil && number > 0
}
