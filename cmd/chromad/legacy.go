package main

import (
	"fmt"
	"strings"
)

// legacyAuth refuses what once switched authentication on in Chroma's server.
// Who sets it believes that his data is protected by it; ignoring it would
// leave him in that belief.
func legacyAuth(environ []string) error {
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if value != "" && legacyAuthName(name) {
			return fmt.Errorf("the environment variable %s has no meaning here: users are in the store; make them with chromad users, "+
				"or take over what there was with chromad users import, and unset it", name)
		}
	}
	return nil
}

// legacyAuthName tells the settings of authentication and authorization that
// Chroma had before version 1, in whatever case.
func legacyAuthName(name string) bool {
	name = strings.ToUpper(name)
	for _, prefix := range []string{"CHROMA_SERVER_AUTHN_", "CHROMA_SERVER_AUTHZ_", "CHROMA_SERVER_AUTH_", "CHROMA_AUTH_TOKEN_", "CHROMA_OVERWRITE_SINGLETON_TENANT"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
