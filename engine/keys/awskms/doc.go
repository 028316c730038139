// Package awskms has the operator's key in AWS Key Management Service, through
// Tink's client and Amazon's SDK.
//
//	aws-kms://arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef
//	aws-kms://arn:aws:kms:eu-central-1:111122223333:alias/chromad
//
// The region is the one in the ARN. Credentials come from where Amazon's tools
// take them: AWS_ACCESS_KEY_ID and its companions, the shared files with
// AWS_PROFILE, web identity of a pod, the role of a container or a machine.
// AWS_ENDPOINT_URL_KMS names another endpoint. The key must be symmetric; the
// permissions are kms:Encrypt and kms:Decrypt.
//
// Associated data is the encryption context, as one pair: "associatedData" and
// the bytes in hexadecimal. It stands in CloudTrail.
package awskms
