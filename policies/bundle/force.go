package bundle

import (
	"context"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

// accept puts an examined bundle in force, and remembers it. It reports whether
// another engine decides now.
//
// The order matters to whoever pulls the plug: first the bundle is kept, then it is
// in force, and then the floor moves. The other way round a node could be left with
// a floor that its own last good bundle does not reach.
func (s *Source) accept(found *standing, kept store.Kept) (changed bool) {
	k := s.keeper
	k.disk.Lock()
	defer k.disk.Unlock()
	mark := store.Mark{Serial: found.bundle.Manifest.Serial, Digest: found.bundle.Digest}
	if found.bundle.BreakGlass {
		// Used before it is in force: a crash must not leave it to be used again.
		k.use(found, mark)
	} else if found.origin == OriginSource {
		k.wanted = &kept
	}
	k.write()
	changed = s.enforce(found, kept.Version)
	if !found.bundle.BreakGlass {
		if mark != k.state.Floor || !k.local {
			k.state.Floor, k.local, k.dirty = mark, true, true
		}
		if e := k.state.Emergency; e.Serial > 0 && !e.Over && found.origin == OriginSource {
			k.state.Emergency.Over, k.dirty = true, true
		}
		k.confirm(found.bundle.Manifest)
	}
	k.write()
	return changed
}

// use takes a bundle for emergencies as used, and a restart with it for a minute of
// its time. The caller holds disk.
func (k *keeper) use(found *standing, mark store.Mark) {
	k.mu.Lock()
	running := k.emergency != nil && k.emergency.engine == found.engine
	k.mu.Unlock()
	if running {
		return
	}
	end := found.bundle.Manifest.NotAfter
	left := min(end.Sub(k.clock.now()), emergencyLimit)
	if k.state.Emergency.Mark == mark {
		left = min(left, k.state.Emergency.Left-emergencyStep)
	}
	k.state.Emergency, k.dirty = store.Emergency{Mark: mark, End: end, Left: left}, true
}

// confirm raises the certain time. The caller holds disk.
func (k *keeper) confirm(m policies.Manifest) {
	k.state.Time = k.clock.observe(m)
	if k.state.Time.Sub(k.keptTime) >= keepTimeEvery {
		k.dirty = true
	}
}

// write brings the store up to date where it can. What fails is tried again at the
// next attempt; policy that arrived is in force all the same. The caller holds disk.
func (k *keeper) write() {
	k.failing = nil
	if k.wanted != nil {
		if err := k.Store.KeepBundle(*k.wanted); err != nil {
			k.failing = err
			if k.dirty {
				_ = k.writeState() // a full disk lowers no floor
			}
			return
		}
		k.wanted = nil
	}
	if k.dirty {
		k.failing = k.writeState()
	}
}

func (k *keeper) writeState() error {
	if err := k.Store.KeepState(k.state); err != nil {
		return err
	}
	k.dirty, k.keptTime, k.lost = false, k.state.Time, nil
	return nil
}

// enforce makes a bundle the one that decides. A bundle of the source ends an
// emergency: its owner has published what is to be in force. The caller holds disk.
func (s *Source) enforce(found *standing, version string) (changed bool) {
	k := s.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.inForce()
	slim := *found
	slim.bundle.Modules, slim.bundle.Data, slim.bundle.Places = nil, nil, nil
	switch {
	case found.bundle.BreakGlass:
		slim.last = k.Monotonic() + k.state.Emergency.Left
		if k.emergency != nil && k.emergency.engine == found.engine {
			slim.since, slim.last = k.emergency.since, k.emergency.last
		}
		k.emergency = &slim
	default:
		if k.regular != nil && k.regular.engine == found.engine {
			slim.since = k.regular.since
		}
		k.regular = &slim
		if found.origin == OriginSource {
			k.emergency = nil
		}
	}
	if found.origin == OriginSource {
		// What the store says of a version nobody has signed: whoever writes it could
		// have an older bundle pass for the one that the source has.
		k.known = version
	}
	s.publish()
	now := k.inForce()
	return before == nil || before.engine != now.engine
}

// publish has the bundle in force decide, for as long as it may, and sees to what
// follows. The caller holds mu.
func (s *Source) publish() {
	k := s.keeper
	now := k.inForce()
	if now == nil {
		return
	}
	left := now.bundle.Manifest.NotAfter.Sub(k.clock.now())
	if now.last > 0 {
		left = min(left, now.last-k.Monotonic())
	}
	if left <= 0 {
		if s.active.Load() != nil && s.active.Load().Digest() == now.engine.Digest() && s.ended {
			return
		}
		s.ended = true
		s.active.Store(now.engine.Ended())
		return
	}
	s.ended = false
	s.active.Store(now.engine)
	if k.stop != nil {
		k.stop()
	}
	if now == k.emergency {
		left = min(left, emergencyStep) // to write down what is left then
	}
	if k.After != nil {
		k.stop = k.After(left, s.settleByTimer)
	}
}

// settle ends what is over: a break-glass bundle gives way to the last good one,
// which, where it has ended too, decides nothing. A timer calls it, and each
// attempt, since a timer stands still while the machine sleeps.
func (s *Source) settle() {
	k := s.keeper
	k.mu.Lock()
	ended := k.emergency
	if ended != nil && k.over(ended) {
		// Its source still has it: that it is refused from now on must be seen.
		k.emergency, k.known = nil, ""
	} else {
		ended = nil
	}
	if ended != nil && k.regular == nil {
		s.active.Store(nil)
	}
	s.publish()
	regular, running := k.regular, k.emergency
	k.mu.Unlock()
	if running != nil {
		k.countDown(running)
	}
	if ended == nil {
		return
	}
	k.spend(ended.bundle)
	r := Report{Change: ChangeBreakGlassEnded}
	if regular != nil {
		r.Origin, r.Bundle = regular.origin, regular.bundle
	}
	s.tell(r)
}

// countDown keeps how long a bundle for emergencies may be in force yet.
func (k *keeper) countDown(s *standing) {
	k.disk.Lock()
	defer k.disk.Unlock()
	if e := &k.state.Emergency; e.Serial == s.bundle.Manifest.Serial && e.Digest == s.bundle.Digest && !e.Over {
		e.Left, k.dirty = max(0, min(e.Left, s.last-k.Monotonic())), true
		k.write()
	}
}

// spend keeps that a bundle for emergencies is over, at once: a restart with another
// time on the clock does not revive it.
func (k *keeper) spend(b policies.Bundle) {
	k.disk.Lock()
	defer k.disk.Unlock()
	if e := &k.state.Emergency; e.Serial == b.Manifest.Serial && e.Digest == b.Digest && !e.Over {
		e.Over, k.dirty = true, true
		k.write()
	}
}

// remember writes what is owed to the store and to the cluster, when no more
// bundles are looked at.
func (s *Source) remember(ctx context.Context) {
	k := s.keeper
	k.mu.Lock()
	regular := k.regular
	k.mu.Unlock()
	k.disk.Lock()
	if regular != nil {
		k.confirm(regular.bundle.Manifest)
	}
	if e := k.state.Emergency; e.Serial > 0 && !e.Over && !k.clock.now().Before(e.End) {
		k.state.Emergency.Over, k.dirty = true, true
	}
	k.write()
	floor := k.state.Floor
	k.disk.Unlock()
	if regular == nil || k.Raise == nil || k.raised == floor && k.Monotonic()-k.raisedAt < raiseEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, floorTimeout)
	defer cancel()
	err := k.Raise(ctx, floor)
	k.disk.Lock()
	defer k.disk.Unlock()
	k.raising = err
	if err == nil {
		k.raised, k.raisedAt = floor, k.Monotonic()
	}
}
