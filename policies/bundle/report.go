package bundle

import (
	"maps"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

// Change says what is different from before.
type Change string

// The changes.
const (
	ChangeNone            Change = ""                  // an attempt failed
	ChangeLoaded          Change = "loaded"            // another bundle is in force
	ChangeFallback        Change = "fallback"          // for want of a better one
	ChangeBreakGlass      Change = "break_glass"       // for emergencies
	ChangeBreakGlassEnded Change = "break_glass_ended" // the last good one is in force again, or a new one
	ChangeRecovered       Change = "recovered"         // the source is good again, the bundle the same
)

// Report says what became of an attempt to load a bundle.
type Report struct {
	Time     time.Time
	Digest   string // of the bundle that was tried, "" if it could not be read
	Manifest policies.Manifest
	Signed   bool
	Active   string // digest of the bundle in force afterwards, "" for none
	Err      error  // nil: the tried bundle is in force now
	Reason   Reason // of Err
	Change   Change
	Origin   Origin
	// Bundle is what was tried, for WriteTarball; without modules and data if it
	// could not be read, or was in force before.
	Bundle policies.Bundle
}

// tell completes a report and hands it over.
func (s *Source) tell(r Report) {
	s.reporting.Lock()
	defer s.reporting.Unlock()
	r.Time, r.Active = s.config.Compile.Clock(), s.Active().Digest()
	r.Digest, r.Manifest, r.Signed = r.Bundle.Digest, r.Bundle.Manifest, r.Bundle.Signed
	s.config.Report(r)
}

// Status is what readiness and metrics say of a Source.
type Status struct {
	Digest   string // of the bundle in force; "" for none
	Manifest policies.Manifest
	Signers  []string
	Origin   Origin
	Since    time.Time // in force, zero for unsigned policy
	Ended    bool      // it is over, so nothing is decided
	// BreakGlass is set while a bundle for emergencies decides.
	BreakGlass bool
	Failures   map[Reason]int64 // attempts that failed
	Failure    error            // of the last attempt
	Floor      store.Mark       // of serials that this process has seen in force
	Disk       error            // why the store is not up to date, or was found damaged
	Cluster    error            // why the cluster's floor does not take this serial
}

// Status returns how things are.
func (s *Source) Status() Status {
	e := s.Active()
	st := Status{Digest: e.Digest(), Manifest: e.Manifest(), BreakGlass: e.BreakGlass(), Failure: s.Failure()}
	s.mu.Lock()
	st.Failures = maps.Clone(s.failures)
	s.mu.Unlock()
	k := s.keeper
	if k == nil {
		if st.Digest != "" {
			st.Origin = OriginSource
		}
		return st
	}
	k.mu.Lock()
	if now := k.inForce(); now != nil {
		st.Signers, st.Origin, st.Since, st.Ended = now.bundle.Signers, now.origin, now.since, k.over(now)
	}
	k.mu.Unlock()
	k.disk.Lock()
	defer k.disk.Unlock()
	st.Floor, st.Disk, st.Cluster = k.state.Floor, k.failing, k.raising
	if st.Disk == nil {
		st.Disk = k.lost
	}
	return st
}
