package bundle_test

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

// TestP10RegistryFollowsItsTag: first load, one request for each look that finds
// nothing new, and a better bundle.
func TestP10RegistryFollowsItsTag(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		s := newShop(t, w)
		if err := s.start(); bundle.ReasonOf(err) != bundle.ReasonUnreadable || s.source.Active() != nil {
			t.Errorf("Start() with an empty registry = %v, want unreadable and no engine", err)
		}
		s.publish(5, true)
		s.must(s.reload())
		s.want(5, "at first")
		if st := s.source.Status(); st.Origin != bundle.OriginSource || st.Floor.Serial != 5 || !slices.Equal(st.Signers, []string{s.signer.Key().ID}) {
			t.Errorf("Status() = %+v, want the source, floor 5 and its signer %s", st, s.signer.Key().ID)
		}
		s.requests()
		active := s.source.Active()
		for range 3 {
			s.must(s.reload())
		}
		if asked := s.requests(); len(asked) != 3 || heads(asked) != 3 || s.source.Active() != active {
			t.Errorf("three looks asked %v, want one HEAD each and the same engine", asked)
		}
		s.publish(6, false)
		s.must(s.reload())
		s.want(6, "after the tag has moved")
		if last := s.last(); last.Change != bundle.ChangeLoaded || last.Manifest.Serial != 6 || !last.Signed {
			t.Errorf("report = %+v, want serial 6 loaded", last)
		}
	})
}

// moves are the ways in which a tag goes wrong while serial 5 is in force.
func moves() map[string]struct {
	move func(s *shop)
	want bundle.Reason
} {
	return map[string]struct {
		move func(s *shop)
		want bundle.Reason
	}{
		"older":        {func(s *shop) { s.publish(4, true) }, bundle.ReasonSerial},
		"equivocation": {func(s *shop) { s.publish(5, false) }, bundle.ReasonEquivocation},
		"unsigned":     {func(s *shop) { s.push(s.tarball(6, 30*day, true)) }, bundle.ReasonUnsigned},
		"transplanted": {func(s *shop) {
			good := s.push(s.tarball(6, 30*day, false))
			made := s.sign(good, s.signer)
			s.transplant(good, s.push(s.tarball(7, 30*day, true)), made)
		}, bundle.ReasonUntrusted},
		"other key":              {func(s *shop) { s.sign(s.push(s.tarball(6, 30*day, true)), signaturetest.NewSigner(s.t)) }, bundle.ReasonUntrusted},
		"expired":                {func(s *shop) { s.sign(s.push(s.tarball(6, -time.Second, true)), s.signer) }, bundle.ReasonExpired},
		"emergency for too long": {func(s *shop) { s.sign(s.push(s.tarball(6, 5*time.Hour, true)), s.emergency) }, bundle.ReasonBreakGlass},
		"no bundle": {func(s *shop) {
			s.raw(http.MethodPut, "manifests/prod", "application/vnd.oci.image.index.v1+json", `{"schemaVersion":2,"manifests":[]}`)
		}, bundle.ReasonUnreadable},
		"tag deleted": {func(s *shop) { s.raw(http.MethodDelete, "manifests/prod", "", "") }, bundle.ReasonUnreadable},
	}
}

// TestP10RegistryFirstLoad: what is refused later is refused first too, and then
// nothing decides.
func TestP10RegistryFirstLoad(t *testing.T) {
	for name, tt := range moves() {
		if tt.want == bundle.ReasonSerial || tt.want == bundle.ReasonEquivocation || name == "tag deleted" {
			continue // there is nothing yet to compare with, or to delete
		}
		t.Run(name, func(t *testing.T) {
			s := newShop(t, ways()[0])
			tt.move(s)
			if err := s.start(); bundle.ReasonOf(err) != tt.want || s.source.Active() != nil {
				t.Errorf("Start() = %v, want %s and no engine", err, tt.want)
			}
			s.want(0, "at first")
			if _, err := s.rig.store.Bundle(); !store.Absent(err) {
				t.Errorf("the store has what was refused (%v)", err)
			}
		})
	}
}

// TestP10RegistrySignedLater: pushed first, signed then, which is how it goes with
// cosign. The digest is the one that was refused, and is looked at all the same.
func TestP10RegistrySignedLater(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		s := newShop(t, w)
		first := s.push(s.tarball(5, 30*day, true))
		if err := s.start(); bundle.ReasonOf(err) != bundle.ReasonUnsigned {
			t.Errorf("Start() = %v, want unsigned", err)
		}
		s.want(0, "before the first signature")
		s.sign(first, s.signer)
		s.must(s.reload())
		s.want(5, "after the first signature")

		second := s.push(s.tarball(6, 30*day, false))
		s.refused(bundle.ReasonUnsigned, 5, "without a signature")
		s.sign(second, signaturetest.NewSigner(t))
		s.refused(bundle.ReasonUntrusted, 5, "with a stranger's signature")
		s.sign(second, s.signer)
		s.must(s.reload())
		s.want(6, "with the stranger's signature and the right one")
		if st := s.source.Status(); !slices.Equal(st.Signers, []string{s.signer.Key().ID}) {
			t.Errorf("Status().Signers = %v, want the one that is trusted", st.Signers)
		}
	})
}

// TestP10RegistryEmergency: a bundle for emergencies under the same tag, and back.
func TestP10RegistryEmergency(t *testing.T) {
	s := newShop(t, ways()[0])
	s.publish(50, false)
	s.must(s.start())
	s.sign(s.push(s.tarball(1, time.Hour, true)), s.emergency)
	s.must(s.reload())
	s.want(1, "in an emergency")
	s.setFault(broken503)
	s.pass(time.Hour)
	_ = s.reload()
	s.want(50, "after the emergency, with the registry down")
	s.setFault(nil)
	s.refused(bundle.ReasonExpired, 50, "while the tag still names it")
	s.publish(51, true)
	s.must(s.reload())
	s.want(51, "after the emergency")
}

// TestP10RegistryPinned: who names a digest gets that one, wherever the tag goes.
func TestP10RegistryPinned(t *testing.T) {
	s := newShop(t, ways()[0])
	digest := s.publish(5, true)
	s.fetcher = s.at(s.front, "policy:prod@"+digest, 20*time.Second)
	s.must(s.start())
	s.publish(6, false)
	s.requests()
	s.must(s.reload())
	s.want(5, "after the tag has moved")
	if asked := s.requests(); len(asked) != 0 {
		t.Errorf("a look at a digest asked %v, want nothing", asked)
	}
	s.setFault(broken503)
	if err := s.start(); bundle.ReasonOf(err) != bundle.ReasonUnreadable {
		t.Errorf("Start() with the registry down = %v, want unreadable", err)
	}
	s.want(5, "after a restart with the registry down")
}

// TestP10RegistryDownAtRestart: the store decides, and the registry when it is back.
func TestP10RegistryDownAtRestart(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		s := newShop(t, w)
		s.publish(5, false)
		s.must(s.start())
		s.publish(6, true)
		s.must(s.reload())
		s.setFault(broken503)
		if err := s.start(); bundle.ReasonOf(err) != bundle.ReasonUnreadable {
			t.Errorf("Start() = %v, want unreadable", err)
		}
		s.want(6, "with the registry down")
		if st := s.source.Status(); st.Origin != bundle.OriginStore || len(st.Signers) != 1 {
			t.Errorf("Status() = %s of %v, want the store's and its signer", st.Origin, st.Signers)
		}
		s.setFault(nil)
		s.must(s.reload())
		s.want(6, "with the registry up")
		if last := s.last(); s.source.Status().Origin != bundle.OriginSource || last.Change != bundle.ChangeRecovered || last.Err != nil {
			t.Errorf("origin %s, report %+v, want the source, recovered", s.source.Status().Origin, last)
		}
	})
}

// tampered is what somebody does to the store of a node that has serial 6.
func tampered() map[string]func(s *shop) {
	keep := func(change func(s *shop, k *store.Kept)) func(s *shop) {
		return func(s *shop) {
			k, err := s.rig.store.Bundle()
			s.must(err)
			change(s, &k)
			s.must(s.rig.store.KeepBundle(k))
		}
	}
	return map[string]func(s *shop){
		"a byte":         func(s *shop) { flip(s.t, s.dir+"/bundle") },
		"cut short":      func(s *shop) { s.must(os.Truncate(s.dir+"/bundle", 100)) },
		"removed":        func(s *shop) { s.must(os.Remove(s.dir + "/bundle")) },
		"another bundle": keep(func(s *shop, k *store.Kept) { k.Artifact.Tarball = s.tarball(9, 30*day, true) }),
		"no signature":   keep(func(_ *shop, k *store.Kept) { k.Artifact.Signatures = nil }),
		"a stranger's": keep(func(s *shop, k *store.Kept) {
			k.Artifact = signaturetest.Forms()[0].Signed(s.t, s.tarball(9, 30*day, true), signaturetest.NewSigner(s.t))
		}),
		// Well signed, older, and under the name of what the registry has.
		"an older one": keep(func(s *shop, k *store.Kept) { k.Artifact = s.signed(5, true) }),
		// Whoever holds emergency keys publishes; the store is no way in.
		"an emergency": keep(func(s *shop, k *store.Kept) { k.Artifact = s.breakGlass(1, time.Hour) }),
	}
}

// TestP10RegistryAndTamperedStore: with the registry down nothing of it decides; with
// the registry up it does no harm, and is written anew.
func TestP10RegistryAndTamperedStore(t *testing.T) {
	for name, tamper := range tampered() {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, ways()[0])
			s.publish(5, true)
			s.must(s.start())
			s.publish(6, false)
			s.must(s.reload())
			tamper(s)
			s.setFault(broken503)
			if err := s.start(); bundle.ReasonOf(err) != bundle.ReasonUnreadable || s.source.Active() != nil {
				t.Errorf("Start() with the registry down = %v with serial %d, want unreadable and no engine", err, s.serial())
			}
			s.setFault(nil)
			s.must(s.start())
			s.want(6, "with the registry up")
			if st := s.source.Status(); st.Origin != bundle.OriginSource || st.Floor.Serial != 6 || st.Disk != nil {
				t.Errorf("Status() = %s, floor %d, disk %v, want the source, 6 and a good disk", st.Origin, st.Floor.Serial, st.Disk)
			}
			s.setFault(broken503)
			_ = s.start()
			s.want(6, "from the store that was written anew")
		})
	}
}

// broken503 is a registry that is down behind its load balancer.
func broken503(w http.ResponseWriter, _ *http.Request) bool {
	http.Error(w, strings.Repeat("down ", 100), http.StatusServiceUnavailable)
	return true
}
