// Package access says who may do what: users and their credentials, roles, and
// the decision about one action on one target. It knows neither HTTP nor the
// store; package server asks it before it does anything for a request.
//
//	action.go      everything that can be done, by Chroma's names
//	policy.go      what an operator decided, as it is kept and exported
//	role.go        which actions, where; the built-in roles
//	secret.go      API keys and passwords: made, hashed, compared
//	where.go       which records: conditions with the principal's values
//	principal.go   who asks, and whether he may
//	command.go     single changes of a policy
//	change.go      who may make which of them, and what is never made by mistake
//	directory.go   the policy of a running server, credentials to principals
//
// A policy without users is open: whoever reaches the server may do
// everything, which is why a server with one listens on loopback only. From
// the first user on everybody needs a credential.
package access
