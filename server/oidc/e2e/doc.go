// Package e2e tests chromad with a real identity provider: dex, as others run
// it, over its own storage in memory. A person signs in with a browser's
// requests, and the ID token goes to the chromad binary, which knows the provider
// from its configuration file alone.
//
// It is a module of its own, so that nothing of dex becomes a dependency of
// chromad: cd server/oidc/e2e && go test ./...
package e2e
