package signature_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
)

var offlineCase = flag.String("offline-case", "", "file with what the child of TestVerifyAsksNoNetworkAndNoEnvironment verifies")

// offline is what one child verifies.
type offline struct {
	Config   signature.Config
	Artifact signature.Artifact
	Want     signature.Reason // empty: vouched for
}

// TestOfflineChild verifies what its parent wrote down.
func TestOfflineChild(t *testing.T) {
	if *offlineCase == "" {
		t.Log("nothing to do: TestVerifyAsksNoNetworkAndNoEnvironment starts it")
		return
	}
	text, err := os.ReadFile(*offlineCase)
	if err != nil {
		t.Fatal(err)
	}
	var list []offline
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	for i, o := range list {
		trust, err := signature.NewTrust(o.Config)
		if err != nil {
			t.Fatal(err)
		}
		if o.Want != "" {
			wantReason(t, trust, o.Artifact, o.Want)
		} else if v, err := trust.Verify(t.Context(), o.Artifact); err != nil || len(v.Signers) != 1 {
			t.Errorf("Verify() of case %d = %v, %v, want one signer", i, v, err)
		}
	}
	t.Logf("verified %d cases", len(list))
}

// offlineCases are vouched for, each in its form, and refused for want of what an
// online verifier would go and fetch.
func offlineCases(t *testing.T) []offline {
	t.Helper()
	s, a := signaturetest.NewSigner(t), signaturetest.NewAuthority(t)
	keys := signature.Config{Keys: []signature.Key{s.Key()}}
	identities := signature.Config{Identities: []signature.Identity{alice()}, TrustedRoot: a.TrustedRoot(t, signaturetest.Holds{Log: true})}
	var list []offline
	for _, form := range signaturetest.Forms() {
		keyless := func(k signaturetest.Keyless) signature.Artifact {
			k.Identity = alice()
			artifact := form.Artifact(tarball(t))
			artifact.Signatures = []signature.Signature{a.Sign(t, k, form, artifact)}
			return artifact
		}
		list = append(list,
			offline{keys, form.Signed(t, tarball(t), s), ""},
			offline{keys, form.Artifact(tarball(t)), signature.Unsigned},
			offline{keys, form.Signed(t, tarball(t), signaturetest.NewSigner(t)), signature.WrongKey},
			offline{identities, keyless(signaturetest.Keyless{}), ""},
			offline{identities, keyless(signaturetest.Keyless{NoEntry: true}), signature.Log},
			offline{identities, keyless(signaturetest.Keyless{Foreign: signaturetest.NewAuthority(t)}), signature.Log},
		)
	}
	return list
}

// A proxy that everything is told to use counts who comes; every variable of the
// Sigstore libraries points at keys and roots that are wrong; and as root, there is
// no network either.
func TestVerifyAsksNoNetworkAndNoEnvironment(t *testing.T) {
	for _, isolated := range []bool{false, true} {
		t.Run(map[bool]string{false: "proxy", true: "no network"}[isolated], func(t *testing.T) {
			if isolated {
				hardeningtest.NeedRoot(t)
			}
			dir := t.TempDir()
			proxy, visits := countVisits(t)
			cases := offlineCases(t)
			text, err := json.Marshal(cases)
			if err != nil {
				t.Fatal(err)
			}
			file, wrong := filepath.Join(dir, "cases.json"), filepath.Join(dir, "wrong.pem")
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(wrong, signaturetest.NewSigner(t).Key().PEM, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOfflineChild$", "-test.v", "-offline-case="+file)
			cmd.Dir = dir
			cmd.Env = []string{"HOME=" + filepath.Join(dir, "home"), "TUF_ROOT=" + filepath.Join(dir, "tuf"), "TUF_MIRROR=http://" + proxy}
			for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
				cmd.Env = append(cmd.Env, name+"=http://"+proxy)
			}
			for _, name := range []string{
				"SIGSTORE_ROOT_FILE", "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", "SIGSTORE_REKOR_PUBLIC_KEY", "SIGSTORE_TSA_CERTIFICATE_FILE",
				"SIGSTORE_TUF_ROOT", "SSL_CERT_FILE", "COSIGN_REPOSITORY", "COSIGN_EXPERIMENTAL", "COSIGN_DOCKER_MEDIA_TYPES", "COSIGN_MAX_ATTACHMENT_SIZE",
			} {
				cmd.Env = append(cmd.Env, name+"="+wrong)
			}
			if isolated {
				cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
			}
			out, err := cmd.CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte("verified 24 cases")) {
				t.Errorf("child = %v, want 24 cases verified\n%s", err, out)
			}
			if n := visits.Load(); n != 0 {
				t.Errorf("%d connections were made, want none", n)
			}
			entries, err := os.ReadDir(dir)
			var names []string
			for _, entry := range entries {
				names = append(names, entry.Name())
			}
			if err != nil || !slices.Equal(names, []string{"cases.json", "wrong.pem"}) {
				t.Errorf("beside the test's own, there are files: %q, %v", names, err)
			}
		})
	}
}

// countVisits listens where nobody should come.
func countVisits(t *testing.T) (string, *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	visits := new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			visits.Add(1)
			c.Close()
		}
	}()
	return l.Addr().String(), visits
}
