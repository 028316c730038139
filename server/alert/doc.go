// Package alert looks at the events of the audit log as they come and tells
// when somebody should look too: too many refusals, too much that is read, what
// happens at the wrong hour, and what has never happened before.
//
//	rule.go     what is looked for, with bounds on what may be asked
//	hours.go    when somebody is at work
//	watcher.go  a bounded queue and one goroutine, which asks each rule
//	burst.go    rules that count within a time
//	novel.go    rules that remember what they have seen
//	bell.go     one alert and then a count, however much happens
//	message.go  the alert as it is sent
//
// Memory is bounded whatever happens: rules remember the subjects (principals,
// addresses, keys) of whom something was heard last, and forget others. Who can
// make up a great many subjects can make a rule forget; a rule that counts by
// "all" has one subject and forgets nothing.
package alert
