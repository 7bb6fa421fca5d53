//go:build !race

// One caller, and every way to change a bundle one after the other: nothing for the race
// detector, which takes some ten times as long.

package bundle_test

import (
	"testing"

	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

// TestP10Tampering: each way to change a signed bundle is refused at the first
// load, at a reload and from the store, while the last good bundle decides.
func TestP10Tampering(t *testing.T) {
	for _, form := range signaturetest.Forms() {
		base := newRig(t)
		for _, bad := range form.Tampering(t, base.tarball(6, 30*day, false), base.signer) {
			t.Run(form.Name+"/"+bad.Name, func(t *testing.T) {
				r := newRig(t)
				r.signer = base.signer
				r.registry.put(bad.Artifact)
				if err := r.start(); err == nil || r.source.Active() != nil {
					t.Fatalf("Start() = %v, want it refused", err)
				}
				r.registry.put(r.signed(5, true))
				r.must(r.reload())
				r.registry.put(bad.Artifact)
				if err := r.reload(); bundle.ReasonOf(err) == "" {
					t.Errorf("Reload() = %v, want it refused with a reason", err)
				}
				r.want(5, "after a reload")
				r.must(r.store.KeepBundle(store.Kept{Version: "x", Artifact: bad.Artifact}))
				r.registry.down()
				if err := r.start(); err == nil || r.source.Active() != nil {
					t.Errorf("Start() from the store = %v with an engine, want it refused", err)
				}
			})
		}
	}
}
