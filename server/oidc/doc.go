// Package oidc lets people in with the bearer tokens of an OpenID Connect
// provider: it verifies a token and says whose it is and which roles it gives.
// Package access decides what they may do.
//
// A token counts when its issuer is one of the configured ones, its signature
// is by a key that the issuer publishes and an algorithm that is allowed, it is
// meant for this server (audience), and it has not expired. Claims become roles
// by rules of the configuration; a claim that no rule names means nothing.
//
// The only connections are to the issuer, and to hosts that the configuration
// names beside it: for the discovery document and for keys. No redirect is
// followed. Keys are fetched again when a token names one that is not known, at
// most once in some seconds, whoever asks.
package oidc
