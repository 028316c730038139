// Package vault has the operator's key in the transit engine of HashiCorp Vault
// or OpenBao, through Tink's client.
//
//	hcvault://vault.example.org:8200/transit/keys/chromad
//
// After the host comes the path of the key: where the engine is mounted,
// "keys", and the name. The key is of type aes256-gcm96 (the default) or
// chacha20-poly1305, not derived. The policy allows update on
// transit/encrypt/NAME and transit/decrypt/NAME, nothing else.
//
// Settings come from the environment, as for Vault's own tools: VAULT_TOKEN,
// VAULT_NAMESPACE, VAULT_CACERT, VAULT_CAPATH, VAULT_CLIENT_CERT,
// VAULT_CLIENT_KEY, VAULT_TLS_SERVER_NAME, VAULT_AGENT_ADDR and the like. The
// connection is TLS. Without it only an address is called that VAULT_ADDR
// (http://host:port of the URI) or VAULT_AGENT_ADDR spells out. When the URI has
// no host (hcvault:///transit/keys/chromad), VAULT_ADDR is the address.
//
// Associated data goes into the parameter associated_data. Servers that do not
// know it leave it out without a word, so each encryption is followed by a
// decryption with other associated data that must fail.
package vault
