// Package gcpkms has the operator's key in Google Cloud Key Management Service.
//
//	gcp-kms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY
//
// Credentials are Google's application default credentials: the file that
// GOOGLE_APPLICATION_CREDENTIALS names, what gcloud has left, or the service
// account of the machine. The role is
// roles/cloudkms.cryptoKeyEncrypterDecrypter on the key, whose purpose is
// symmetric encryption. New versions of the key encrypt; older ones decrypt as
// long as they are enabled.
//
// It speaks the service's REST API itself: two calls. Google's client for them
// would bring gRPC and OpenTelemetry, a third more of the whole program, and
// the part of it that goes without takes no context.
//
// Associated data is additionalAuthenticatedData. Checksums (CRC32C) go both
// ways and are checked, as Google's guide to data integrity asks.
package gcpkms
