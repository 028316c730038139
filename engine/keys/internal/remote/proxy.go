package remote

import (
	"os"

	"github.com/chromad/chromad/internal/outbound"
)

// ProxyVariable names the proxy to key services. Those of other programs
// (HTTPS_PROXY) say nothing about who may see where the store's keys come from.
const ProxyVariable = "CHROMAD_KEYS_PROXY"

// Proxy sends what follows by way of the proxy that the variable names, if it
// is set.
func Proxy(w *outbound.Way) error {
	if address := os.Getenv(ProxyVariable); address != "" {
		return w.Proxy(address)
	}
	return nil
}
