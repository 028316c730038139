package regex

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// An Error says what is wrong with a pattern, and where.
type Error struct {
	Pattern    string
	Start, End int // bytes
	Reason     string
}

// Error shows the pattern with the place marked below it.
func (e *Error) Error() string {
	if strings.Contains(e.Pattern, "\n") || len(e.Pattern) > 1000 {
		return fmt.Sprintf("regex parse error at byte %d: error: %s", e.Start, e.Reason)
	}
	before := utf8.RuneCountInString(e.Pattern[:e.Start])
	marked := max(utf8.RuneCountInString(e.Pattern[e.Start:e.End]), 1)
	return fmt.Sprintf("regex parse error:\n    %s\n    %s%s\nerror: %s",
		e.Pattern, strings.Repeat(" ", before), strings.Repeat("^", marked), e.Reason)
}
