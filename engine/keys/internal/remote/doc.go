// Package remote is what all sources of operator's keys share whose key lies in
// a service: time limits, one policy of trying again, a check of what was
// encrypted before anybody relies on it, and errors that say what to look at.
//
// A source is a Service: two calls, and what their errors mean. operator.go
// makes a keys.Operator of it, policy.go tries again, network.go explains errors
// that are the same for all, text.go is what may stand in an error,
// transport.go binds libraries to a context that take none.
package remote
