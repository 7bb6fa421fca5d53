package bundle_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature"
	"github.com/portcullis-csi/portcullis/policies/bundle/signature/signaturetest"
	"github.com/portcullis-csi/portcullis/policies/bundle/store"
)

// publication is all that the model knows of a bundle.
type publication struct {
	serial    int64
	end       time.Time
	regular   bool // signed by the key of policy
	emergency bool // signed by that for emergencies
}

// model is what may be true of a node, from outside.
type model struct {
	*rig
	*rand.Rand

	history   []string
	made      map[string]publication // by digest; what is not in it nobody signed
	artifacts []signature.Artifact   // good in their time
	top       int64                  // highest regular serial published
	emergency int64                  // highest break-glass serial published
	cluster   clusterFloor

	floor   int64         // of what this node has seen, 0 after it lost its state
	certain time.Time     // in this process
	seen    time.Duration // passed, when certain was
	force   string        // digest that decided last
	good    publication   // the last good regular bundle, zero where none is kept
	began   map[int64]time.Duration
	over    map[int64]bool // break-glass serials that ended
	failing bool           // the disk
}

func newModel(t testing.TB, seed uint64) *model {
	m := &model{
		rig: newRig(t), Rand: rand.New(rand.NewPCG(seed, 10)), made: map[string]publication{},
		began: map[int64]time.Duration{}, over: map[int64]bool{},
	}
	m.rig.floor = &m.cluster
	m.step = func(string) error {
		if m.failing {
			return errors.New("no space left on device")
		}
		return nil
	}
	return m
}

// seal makes an artifact and writes it down.
func (m *model) seal(serial int64, life time.Duration, by *signaturetest.Signer) signature.Artifact {
	m.t.Helper()
	tarball := m.tarball(serial, life, m.IntN(2) == 0)
	a := signature.Artifact{Tarball: tarball}
	if by == nil {
		return a
	}
	a = signaturetest.Forms()[m.IntN(2)].Signed(m.t, tarball, *by)
	digest := digestOfTarball(m.t, tarball)
	p := m.made[digest]
	p.serial, p.end = serial, now().Add(m.passed+life).UTC().Truncate(time.Second)
	p.regular, p.emergency = p.regular || by == &m.signer, p.emergency || by == &m.rig.emergency
	m.made[digest] = p
	return a
}

// publish puts something at the source, most of it bad.
func (m *model) publish() string {
	stranger := signaturetest.NewSigner(m.t)
	life := time.Duration(1+m.IntN(80)) * day
	switch m.IntN(10) {
	case 0, 1, 2:
		m.top += 1 + m.Int64N(3)
		a := m.seal(m.top, life, &m.signer)
		m.artifacts = append(m.artifacts, a)
		m.registry.put(a)
		return fmt.Sprintf("good %d for %s", m.top, life)
	case 3:
		serial := 1 + m.Int64N(m.top+1)
		m.registry.put(m.seal(serial, life, &m.signer))
		return fmt.Sprintf("older or equivocating %d", serial)
	case 4:
		m.registry.put(m.seal(m.top+1, -time.Duration(1+m.IntN(100))*time.Hour, &m.signer))
		return "expired"
	case 5:
		m.registry.put(m.seal(m.top+1, life, nil))
		return "unsigned"
	case 6:
		m.registry.put(m.seal(m.top+9, life, &stranger))
		for digest, p := range m.made { // a stranger's word is none
			if !p.regular && !p.emergency {
				delete(m.made, digest)
			}
		}
		return "of a stranger"
	case 7:
		m.emergency++
		fallthrough
	case 8:
		serial, life := max(1, m.emergency), time.Duration(30+m.IntN(300))*time.Minute
		m.registry.put(m.seal(serial, life, &m.rig.emergency))
		return fmt.Sprintf("break-glass %d for %s", serial, life)
	default:
		if len(m.artifacts) == 0 {
			return "nothing"
		}
		m.registry.put(m.artifacts[m.IntN(len(m.artifacts))])
		return "one from before"
	}
}

func (m *model) moveTime() string {
	switch m.IntN(4) {
	case 0, 1:
		d := time.Duration(1+m.IntN(200)) * time.Minute
		m.pass(d)
		return "passed " + d.String()
	case 2:
		d := time.Duration(1+m.IntN(20)) * day
		m.pass(d)
		return "passed " + d.String()
	default:
		offset := []time.Duration{0, -time.Hour, -3 * time.Hour, -30 * day, 2 * time.Hour, 20 * day, 500 * day}[m.IntN(7)]
		m.set(offset)
		return "clock off by " + offset.String()
	}
}

// surround changes what is around the node.
func (m *model) surround() string {
	switch m.IntN(5) {
	case 0:
		m.registry.down()
		return "source down"
	case 1:
		m.cluster.err = errDown
		return "cluster floor unreadable"
	case 2:
		m.cluster = clusterFloor{mark: store.Mark{Serial: max(m.cluster.mark.Serial, m.Int64N(m.top+1))}}
		return fmt.Sprintf("cluster floor %d", m.cluster.mark.Serial)
	case 3:
		m.failing = true
		return "disk full"
	default:
		m.failing = false
		return "disk has space"
	}
}

// attack writes the store, as who has the disk can.
func (m *model) attack() string {
	if len(m.artifacts) == 0 || m.failing {
		return "nothing"
	}
	// An old bundle under the name of what the source has.
	version, _ := m.registry.Resolve(context.Background())
	m.must(m.store.KeepBundle(store.Kept{Version: version, Artifact: m.artifacts[m.IntN(len(m.artifacts))]}))
	m.good = publication{}
	return "store exchanged"
}

func (m *model) restart() string {
	m.certain, m.seen = time.Time{}, m.passed // what the store has of it is checked by no more than that
	_ = m.start()
	return "restart"
}

func (m *model) lose() string {
	for _, name := range []string{"state.json", "bundle"} {
		if err := os.Remove(filepath.Join(m.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			m.t.Fatal(err)
		}
	}
	m.floor, m.good = 0, publication{}
	clear(m.began)
	clear(m.over)
	return m.restart() + " without state"
}

// do makes one step of a sequence, and an attempt.
func (m *model) do() (restarted bool) {
	var what string
	switch n := m.IntN(20); {
	case n < 8:
		what = m.publish()
	case n < 13:
		what = m.moveTime()
	case n < 16:
		what = m.surround()
	case n < 17:
		what = m.attack()
	case n < 19:
		what, restarted = m.restart(), true
	default:
		what, restarted = m.lose(), true
	}
	if !restarted {
		m.certain = later(m.certain.Add(m.passed-m.seen), time.Time{})
		m.seen = m.passed
		_ = m.reload()
	}
	m.history = append(m.history, what)
	return restarted
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (m *model) fail(format string, a ...any) {
	m.t.Helper()
	for i, what := range m.history {
		m.t.Logf("%2d %s", i, what)
	}
	m.t.Fatalf(format, a...)
}

// check compares what the node does with what it may.
func (m *model) check(restarted bool) {
	m.t.Helper()
	st, before := m.source.Status(), m.force
	m.force = ""
	if m.serial() > 0 {
		m.force = st.Digest
	}
	if st.Floor.Serial < m.floor {
		m.fail("floor fell from %d to %d", m.floor, st.Floor.Serial)
	}
	p, signed := m.made[m.force]
	switch {
	case m.force == "":
		m.checkNothing(before, restarted)
	case !signed:
		m.fail("%s decides, and nobody signed it", m.force)
	case !later(m.now(), m.certain).Before(p.end):
		m.fail("serial %d decides at %s, and it ended at %s", p.serial, later(m.now(), m.certain), p.end)
	case st.BreakGlass:
		m.checkEmergency(p)
	default:
		m.checkRegular(p, before, restarted)
	}
	if !st.BreakGlass {
		m.endEmergencies(m.force != "" && st.Origin == bundle.OriginSource)
	}
	m.floor = max(m.floor, st.Floor.Serial)
	if st.Disk != nil {
		m.floor = 0 // what is not on the disk may be forgotten
		m.good = publication{}
	}
}

func (m *model) checkRegular(p publication, before string, restarted bool) {
	m.t.Helper()
	if !p.regular {
		m.fail("serial %d decides, and the key of policy did not sign it", p.serial)
	}
	fresh := m.force != before || restarted
	if p.serial < m.floor || fresh && m.cluster.err == nil && p.serial < m.cluster.mark.Serial {
		m.fail("serial %d came into force below floor %d or %d", p.serial, m.floor, m.cluster.mark.Serial)
	}
	if m.force != before && !restarted {
		m.good = p // which the store has from now on, unless somebody exchanges it
	}
	// The clock is certain within the life of a verified bundle.
	if wall := m.now(); wall.Before(p.end) && wall.After(p.end.Add(-90*day)) {
		m.certain = later(m.certain, wall)
	}
}

func (m *model) checkEmergency(p publication) {
	m.t.Helper()
	if !p.emergency {
		m.fail("serial %d decides as break-glass, and its key did not sign it", p.serial)
	}
	if m.over[p.serial] {
		m.fail("break-glass serial %d decides again", p.serial)
	}
	for serial := range m.began {
		m.over[serial] = m.over[serial] || serial < p.serial
	}
	if _, ok := m.began[p.serial]; !ok {
		m.began[p.serial] = m.passed
	}
	if d := m.passed - m.began[p.serial]; d >= 4*time.Hour {
		m.fail("break-glass serial %d decides for %s", p.serial, d)
	}
}

// endEmergencies: what decided as break-glass and does not any more has ended, if
// its end or a bundle of the source did that, and not a restart.
func (m *model) endEmergencies(bySource bool) {
	for serial, since := range m.began {
		if bySource && !m.failing || m.passed-since >= 4*time.Hour {
			m.over[serial] = true
		}
	}
}

// checkNothing: the last good bundle stays, until it ends.
func (m *model) checkNothing(before string, restarted bool) {
	m.t.Helper()
	kept, ok := m.made[before]
	alive := func(p publication) bool { return later(m.now(), m.certain).Before(p.end) }
	if ok && !restarted && kept.regular && !kept.emergency && alive(kept) && m.sane(kept) {
		m.fail("serial %d decided, and nothing does now: %v", kept.serial, m.source.Failure())
	}
	g := m.good
	reaches := m.cluster.err != nil || g.serial >= m.cluster.mark.Serial
	if restarted && g.serial > 0 && alive(g) && m.sane(g) && reaches {
		m.fail("serial %d was kept, and nothing decides after a restart: %v", g.serial, m.source.Failure())
	}
}

// sane reports whether the clock was never so far ahead that the bundle may have
// been taken for ended.
func (m *model) sane(p publication) bool { return now().Add(m.passed + 20*day).Before(p.end) }

func digestOfTarball(t testing.TB, tarball []byte) string {
	t.Helper()
	b, err := bundle.Open(writeFile(t, tarball))
	if err != nil {
		t.Fatal(err)
	}
	return b.Digest
}

func writeFile(t testing.TB, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bundle.tar.gz")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
