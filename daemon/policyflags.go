package daemon

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/portcullis-csi/portcullis/policies/bundle/registry"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/kube/floor"
)

// PolicyFlags are the flags of policy: where it is, and who may sign it.
type PolicyFlags struct {
	Source              string
	Keys                []string
	Identities          []string
	TrustedRoot         string
	Signatures          int
	BreakGlassKeys      []string
	MinSerial           int64
	Floor               string
	Fallback            string
	PollInterval        time.Duration
	RegistryConfig      string
	RegistryCA          string
	SignatureRepository string
	PlainHTTP           bool
	Shadow              string
}

// Add defines the flags.
func (o *PolicyFlags) Add(f *pflag.FlagSet) {
	f.StringVar(&o.Source, "policy", "", "policy bundle (required): a tar.gz of portcullis policy build with its signatures beside it, or oci://HOST/REPOSITORY[:TAG][@DIGEST]"+directoryNote)
	f.StringArrayVar(&o.Keys, "policy-key", nil, "file with a public key, in PEM, whose signature on a policy bundle is trusted; may be given several times")
	f.StringArrayVar(&o.Identities, "policy-identity", nil, "issuer and subject, with one space between, of a certificate whose signature on a policy bundle is trusted; compared exactly; may be given several times")
	f.StringVar(&o.TrustedRoot, "policy-trusted-root", "", "file with Sigstore's trusted root in JSON, for --policy-identity")
	f.IntVar(&o.Signatures, "policy-signatures", 1, "how many distinct keys and identities must have signed a policy bundle")
	f.StringArrayVar(&o.BreakGlassKeys, "policy-break-glass-key", nil, "file with a public key whose bundles are in force for four hours at most, whatever their serial, each serial once; may be given several times, none of them as --policy-key")
	f.Int64Var(&o.MinSerial, "policy-min-serial", 0, "lowest serial of a policy bundle that is accepted")
	f.StringVar(&o.Floor, "policy-floor", "", "NAMESPACE/NAME of the ConfigMap with the cluster's lowest serial; empty: a node that forgets what it has seen accepts any serial from --policy-min-serial on")
	f.StringVar(&o.Fallback, "policy-fallback", "", "signed policy bundle, a file, for when neither --policy nor what was kept of it is good")
	f.DurationVar(&o.PollInterval, "policy-poll-interval", 30*time.Second, "time between looks at the policy source, give or take a fifth; longer after failures")
	f.StringVar(&o.RegistryConfig, "policy-registry-config", "", "docker config.json with the credentials for oci://; read at each look")
	f.StringVar(&o.RegistryCA, "policy-registry-ca", "", "file with certificates in PEM that are trusted for oci://, besides the system's")
	f.StringVar(&o.SignatureRepository, "policy-signature-repository", "", "HOST/REPOSITORY with the signatures of oci://, where they are not beside the bundle")
	f.StringVar(&o.Shadow, "policy-shadow", "", "candidate policy bundle, named and signed as with --policy: it decides beside the one in force and is only compared, see portcullis policy shadow; empty: none")
	f.BoolVar(&o.PlainHTTP, "policy-registry-plain-http", false, "speak to the registry of oci:// without TLS; loopback needs no permission")
}

const keyHint = "give --policy-key FILE, or --policy-identity with --policy-trusted-root; docs/POLICIES.md says how to sign"

// Check refuses flags that do not fit together; unsigned is set where the build and
// its flags accept policy that nobody signed, and help says where flags are told.
func (o *PolicyFlags) Check(unsigned bool, help string) error {
	_, _, floorErr := floor.Parse(o.Floor)
	switch {
	case o.Source == "":
		return Misuse("--policy is missing", "name the policy bundle; there is no way to run without policy")
	case o.PollInterval <= 0:
		return Misuse("--policy-poll-interval must be positive", help)
	case o.MinSerial < 0:
		return Misuse("--policy-min-serial must not be negative", help)
	case o.Signatures < 1:
		return Misuse("--policy-signatures must be 1 or more", help)
	case o.Floor != "" && floorErr != nil:
		return Misuse("--policy-floor: "+floorErr.Error(), "name it as in portcullis/portcullis-policy-floor")
	case !o.signed() && !unsigned:
		return Misuse("nobody is trusted to sign policy", keyHint)
	}
	if flag := o.forSigned(); flag != "" && !o.signed() {
		return Misuse(flag+" is for signed policy: of a bundle that nobody signed it would hold nothing", keyHint)
	}
	return errors.Join(o.checkReference("--policy", o.Source, help), o.checkReference("--policy-shadow", o.Shadow, help))
}

// forSigned names a flag that is given and holds of signed policy only, "" for none.
// Left alone it would look like a protection.
func (o *PolicyFlags) forSigned() string {
	for _, f := range []struct {
		flag  string
		given bool
	}{
		{"--policy-break-glass-key", len(o.BreakGlassKeys) > 0}, {"--policy-fallback", o.Fallback != ""},
		{"--policy-trusted-root", o.TrustedRoot != ""}, {"--policy-signatures", o.Signatures != 1},
		{"--policy-min-serial", o.MinSerial != 0}, {"--policy-floor", o.Floor != ""},
		{"--policy-registry-config", o.RegistryConfig != ""}, {"--policy-registry-ca", o.RegistryCA != ""},
		{"--policy-signature-repository", o.SignatureRepository != ""}, {"--policy-registry-plain-http", o.PlainHTTP},
	} {
		if f.given {
			return f.flag
		}
	}
	return ""
}

// checkReference refuses what begins as a reference of a registry and is none.
func (o *PolicyFlags) checkReference(flag, source, help string) error {
	if !registry.Is(source) {
		return nil
	}
	if !o.signed() {
		return Misuse(flag+" oci:// is for signed policy", keyHint)
	}
	if _, err := registry.Parse(source); err != nil {
		return Misuse(flag+": "+err.Error(), help)
	}
	return nil
}

// signed reports whether somebody is trusted to sign.
func (o *PolicyFlags) signed() bool { return len(o.Keys)+len(o.Identities) > 0 }

// trusts reads who may sign, and who may break glass; emergency is nil without.
func (o *PolicyFlags) trusts() (regular, emergency *signature.Trust, err error) {
	c := signature.Config{Threshold: o.Signatures}
	if c.Keys, err = readKeys("--policy-key", o.Keys); err != nil {
		return nil, nil, err
	}
	for _, text := range o.Identities {
		issuer, subject, ok := strings.Cut(text, " ")
		if !ok {
			return nil, nil, Misuse(fmt.Sprintf("--policy-identity %q has no space", text), "give issuer and subject, with one space between")
		}
		c.Identities = append(c.Identities, signature.Identity{Issuer: issuer, Subject: subject})
	}
	if o.TrustedRoot != "" {
		if c.TrustedRoot, err = readFile("--policy-trusted-root", o.TrustedRoot); err != nil {
			return nil, nil, err
		}
	}
	if regular, err = signature.NewTrust(c); err != nil {
		return nil, nil, Misuse(err.Error(), keyHint)
	}
	if len(o.BreakGlassKeys) == 0 {
		return regular, nil, nil
	}
	keys, err := readKeys("--policy-break-glass-key", o.BreakGlassKeys)
	if err != nil {
		return nil, nil, err
	}
	for _, k := range keys {
		for _, other := range c.Keys {
			if k.ID == other.ID {
				return nil, nil, Misuse("--policy-break-glass-key and --policy-key are both "+k.ID, "keep a key of its own for emergencies: who signs policy every day could pass the floor with it")
			}
		}
	}
	if emergency, err = signature.NewTrust(signature.Config{Keys: keys}); err != nil {
		return nil, nil, Misuse("--policy-break-glass-key: "+err.Error(), keyHint)
	}
	return regular, emergency, nil
}

func readKeys(flag string, files []string) ([]signature.Key, error) {
	var keys []signature.Key
	for _, file := range files {
		text, err := readFile(flag, file)
		if err != nil {
			return nil, err
		}
		key, err := signature.ParseKey(text)
		if err != nil {
			return nil, Misuse(fmt.Sprintf("%s %q: %v", flag, file, err), keyHint)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

const maxConfigFile = 1 << 20

func readFile(flag, file string) ([]byte, error) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return nil, Misuse(fmt.Sprintf("%s: %v", flag, err), "name a file that the process can read")
	case !info.Mode().IsRegular() || info.Size() > maxConfigFile:
		return nil, Misuse(fmt.Sprintf("%s: %q is not a file of at most %d bytes", flag, file, maxConfigFile), "name the file itself")
	}
	text, err := os.ReadFile(file) //nolint:gosec // G304: whoever configures names it
	if err != nil {
		return nil, Misuse(fmt.Sprintf("%s: %v", flag, err), "name a file that the process can read")
	}
	return text, nil
}
