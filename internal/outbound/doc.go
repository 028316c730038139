// Package outbound is the only way out of a process: every connection that the
// program opens goes through a Dialer, by a Way that names its ends.
//
// A server that connects to where a request, an answer or the environment points
// is a hole in the network around it. So each part of the program that has to
// speak to somebody (an identity provider, a key service, a collector of logs)
// has a Way with the places that the operator's configuration names, "host:port"
// each. Everything else is refused, before a name is looked up: redirects, hosts
// that a discovery document names, proxies of the environment. Answers are
// bounded in time and size.
//
//	dialer.go  who may be connected to, and who watches
//	http.go    clients and transports over a Way
//
// A Dialer comes by the context (With, From), so that a library in between
// needs no parameter for it. Tests give one that writes down every attempt.
package outbound
