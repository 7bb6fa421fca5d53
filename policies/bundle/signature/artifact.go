package signature

// MediaTypes of a bundle in a registry: those that opa run -b oci:// and conftest
// pull read.
const (
	LayerMediaType    = "application/vnd.oci.image.layer.v1.tar+gzip"
	ManifestMediaType = "application/vnd.oci.image.manifest.v1+json"
)

// The bounds of what vouches for a bundle.
const (
	MaxManifestBytes  = 64 << 10
	MaxSignatureBytes = 256 << 10 // of one signature with its certificates and proofs
	MaxSignatures     = 32
)

// Artifact is a built bundle and what is said to vouch for it, as a registry, a
// file or a cache has it. Nothing of it is verified.
type Artifact struct {
	Tarball []byte // the bundle, as policy build wrote it
	// Manifest is the OCI image manifest that names the tarball as its one layer;
	// nil for a bundle that was signed as a blob.
	Manifest   []byte
	Signatures []Signature
}

// Signature is one signature as it is kept. It is in one of two formats: Bundle is
// set, or Base64 is.
type Signature struct {
	// Bundle is a Sigstore bundle in JSON: what cosign 3 writes, and cosign 2 with
	// --new-bundle-format.
	Bundle []byte `json:"bundle,omitempty"`

	// The classic format. Base64 is the signature over Payload, or of a blob over
	// the tarball itself.
	Base64      string `json:"base64,omitempty"`
	Payload     []byte `json:"payload,omitempty"`     // simple signing document of a manifest; nil for a blob
	Certificate []byte `json:"certificate,omitempty"` // PEM, keyless only
	Chain       []byte `json:"chain,omitempty"`       // PEM, keyless only; not read: the trusted root has the chain
	RekorBundle []byte `json:"rekorBundle,omitempty"` // JSON: entry of the transparency log
	Timestamp   []byte `json:"timestamp,omitempty"`   // JSON: RFC 3161 timestamp
}
