package learn

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// groupReads is what every file of a volume with an fsGroup gets (policies.Grant.FileMode).
const groupReads = 0o440

// identity is what one grant has one of.
type identity struct {
	Namespace, ServiceAccount, Provider string
	Scoping                             map[string]string
	UID                                 *int64
}

// draft is a grant in the making.
type draft struct {
	identity
	id        string
	secrets   map[string]bool
	syncs     map[string]bool
	audiences map[string]bool
	modes     uint32 // read bits that were asked for
	unbounded bool   // one file asked for whatever the volume has
	kinds     map[string]bool
	names     map[string]bool
	images    map[string]bool
	ownerless bool // a pod without an owner asked

	decisions int64
	last      time.Time
	workloads []string
	pictured  []string
	touched   bool
}

// draftFor returns the draft that a request belongs to.
func (l *Learner) draftFor(in policies.Input, r policies.Request) (*draft, error) {
	who := identity{in.Subject.Namespace, in.Subject.ServiceAccount, in.SPC.Provider, in.SPC.Scoping, r.UID}
	text, err := json.Marshal(who)
	if err != nil {
		return nil, fmt.Errorf("learn grants: %w", err)
	}
	d, ok := l.drafts[string(text)]
	if !ok {
		if len(l.drafts) >= maxDrafts {
			return nil, errTooMany
		}
		d = &draft{
			identity: who, id: draftID(who, text), secrets: map[string]bool{}, syncs: map[string]bool{}, audiences: map[string]bool{},
			kinds: map[string]bool{}, names: map[string]bool{}, images: map[string]bool{},
		}
		l.drafts[string(text)] = d
	}
	d.touched = true
	return d, nil
}

// draftID is the same in every run, so that two drafts can be compared.
func draftID(who identity, text []byte) string {
	sum := sha256.Sum256(text)
	name := fmt.Sprintf("learned-%s-%s", who.Namespace, who.ServiceAccount)
	// Two drafts with one id would be a file that no bundle takes, and who records
	// may try names until two are alike.
	return name[:min(len(name), 46)] + "-" + hex.EncodeToString(sum[:8])
}

// add files a request, and returns how many names the draft holds more.
func (d *draft) add(in policies.Input, r policies.Request) int {
	before := d.size()
	d.secrets[r.Secret] = true
	switch {
	case r.Mode == nil || *r.Mode == 0:
		d.unbounded = true
	case in.Volume.VolumeMountGroup != nil:
		d.modes |= *r.Mode&0o444 | groupReads // as files are delivered; less would lock the pod out
	default:
		d.modes |= *r.Mode & 0o444
	}
	for _, s := range r.Sync {
		d.syncs[s.Name] = true
	}
	for _, t := range in.Tokens {
		if t.Verified {
			d.audiences[t.Audience] = true
		}
	}
	return d.size() - before
}

func (d *draft) size() int { return len(d.secrets) + len(d.syncs) + len(d.audiences) }

// touched returns the drafts that the last decision added to, once.
func (l *Learner) touched() []*draft {
	var list []*draft
	for _, d := range l.drafts {
		if d.touched {
			d.touched = false
			list = append(list, d)
		}
	}
	return list
}

// seen notes who asked.
func (d *draft) seen(in policies.Input, at time.Time, times int64) {
	d.decisions += times
	if at.After(d.last) {
		d.last = at
	}
	d.workloads = noted(d.workloads, workload(in))
	if o := in.Pod.Owner; o != nil {
		narrow(d.kinds, o.Kind)
		narrow(d.names, o.Name)
	} else {
		d.ownerless = true
	}
	for _, c := range in.Pod.Containers {
		if c.MountsVolume {
			d.pictured = noted(d.pictured, c.Image)
			narrow(d.images, repository(c.Image))
		}
	}
}

// narrow adds a name to a set as long as somebody might review it.
func narrow(set map[string]bool, name string) {
	if len(set) <= maxNarrow {
		set[name] = true
	}
}

// narrowing returns a set as a list, nil where it has run over: a list that lacks
// one name would refuse its pods.
func narrowing(set map[string]bool) []string {
	if len(set) > maxNarrow {
		return nil
	}
	return sorted(set)
}

// noted adds a text to a short list once.
func noted(list []string, text string) []string {
	if len(list) >= maxSeen || slices.Contains(list, text) {
		return list
	}
	list = append(list, text)
	slices.Sort(list)
	return list
}

func workload(in policies.Input) string {
	if o := in.Pod.Owner; o != nil {
		return o.Kind + "/" + o.Name
	}
	return "Pod/" + in.Subject.PodName
}

// repository is an image without tag and digest, as portcullis/lib has it.
func repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if at := strings.LastIndexByte(image, ':'); at > strings.LastIndexByte(image, '/') {
		return image[:at]
	}
	return image
}

// suggestion returns the grant, every list sorted.
func (d *draft) suggestion(c Config) Suggestion {
	g := bundle.Grant{
		ID: d.id, Owner: c.Owner, Expiry: c.Expiry.UTC().Format(time.DateOnly), Namespaces: []string{d.Namespace},
		ServiceAccounts: []string{d.ServiceAccount}, Provider: d.Provider, Secrets: sorted(d.secrets), Scoping: maps.Clone(d.Scoping),
		SyncTargets: sorted(d.syncs), OwnerUID: d.UID,
	}
	// The audience "" is the API server's own, which no list can name.
	if !d.audiences[""] {
		g.Audiences = sorted(d.audiences)
	}
	if !d.unbounded && d.modes != 0 && d.UID == nil {
		g.MaxFileMode = new(fmt.Sprintf("%04o", d.modes))
	}
	if c.Narrow {
		g.Pods = d.narrowed()
	}
	return Suggestion{Grant: g, Decisions: d.decisions, Last: d.last.UTC(), Workloads: d.workloads, Images: d.pictured}
}

// narrowed leaves out what would refuse one of the pods that asked.
func (d *draft) narrowed() *bundle.Pods {
	p := &bundle.Pods{ImageRepositories: narrowing(d.images)}
	if !d.ownerless {
		p.OwnerKinds, p.OwnerNames = narrowing(d.kinds), narrowing(d.names)
	}
	if len(p.ImageRepositories)+len(p.OwnerKinds)+len(p.OwnerNames) == 0 {
		return nil
	}
	return p
}

// sorted returns nil for an empty set, which a grant leaves out.
func sorted(set map[string]bool) []string {
	if len(set) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(set))
}
