package bundle

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

const rebuildHint = "hint: build the bundle again with portcullis policy build"

// fromTarball reads the files of a built bundle. The index in it is turned back
// into grants and waivers, which have to pass every check that authors' have and
// make the very same index: so a built bundle can hold nothing that no author
// could have written, and no file in it has a second reading.
func fromTarball(files map[string][]byte) (policies.Bundle, error) {
	r := reader{modules: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		switch name {
		case grantsJSON:
			r.grants = readIndex(&r.collector, name, files[name], grantsOf)
		case waiversJSON:
			r.waivers = readIndex(&r.collector, name, files[name], waiversOf)
		default:
			r.file(name, files[name])
		}
	}
	b := r.bundle()
	if err := r.errs.Err(); err != nil {
		return policies.Bundle{}, err
	}
	want, err := canonical(b)
	if err != nil {
		return policies.Bundle{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if text, ok := files[name]; !ok || !bytes.Equal(text, want[name]) {
			return policies.Bundle{}, fmt.Errorf("policy file %q is missing or not as policy build writes it; %s", name, rebuildHint)
		}
	}
	b.Digest = digest(want)
	return b, nil
}

type grantsDocument struct {
	BySubject policies.GrantIndex `json:"by_subject"`
}

type waiversDocument struct {
	ByFinding policies.WaiverIndex `json:"by_finding"`
}

func readIndex[D, T any](c *collector, name string, text []byte, turn func(D) []T) []entry[T] {
	var document D
	err := checkText(name, text)
	if err == nil {
		err = policies.DecodeStrictly(text, &document)
	}
	if err != nil {
		c.addAll(name, err)
		return nil
	}
	at := policies.Place{File: name}
	entries := entriesOf(turn(document))
	for i := range entries {
		entries[i].where = func(string) policies.Place { return at }
	}
	return entries
}

// Grants returns the grants of a bundle as an author would write them, in the
// order of their ids.
func Grants(b policies.Bundle) []Grant {
	data, _ := b.Data["portcullis"].(map[string]any)
	section, _ := data["grants"].(map[string]any)
	index, _ := section["by_subject"].(policies.GrantIndex)
	return grantsOf(grantsDocument{index})
}

// Waivers returns the waivers of a bundle in the order of their ids.
func Waivers(b policies.Bundle) []Waiver {
	data, _ := b.Data["portcullis"].(map[string]any)
	section, _ := data["waivers"].(map[string]any)
	index, _ := section["by_finding"].(policies.WaiverIndex)
	return waiversOf(waiversDocument{index})
}

// filed gathers under which keys one record stands, each perhaps many times.
type filed struct {
	record                    policies.GrantRecord
	scopes, accounts, secrets []string
}

// grantsOf turns an index back into grants. Where it is not the index of any
// grants, theirs is another one, which the caller sees.
func grantsOf(d grantsDocument) []Grant {
	byID := map[string]*filed{}
	for subject, bySecret := range d.BySubject {
		at := max(0, strings.LastIndex(subject, "/"))
		for key, records := range bySecret {
			for _, record := range records {
				f := byID[record.ID]
				if f == nil {
					f = &filed{record: record}
					byID[record.ID] = f
				}
				f.scopes = append(f.scopes, subject[:at])
				f.accounts = append(f.accounts, strings.TrimPrefix(subject[at:], "/"))
				f.secrets = append(f.secrets, pattern(key))
			}
		}
	}
	grants := make([]Grant, 0, len(byID))
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		grants = append(grants, byID[id].grant())
	}
	return grants
}

// pattern turns "a/" back into "a/*" and "a#" into "a#*".
func pattern(key string) string {
	if strings.HasSuffix(key, "/") || strings.HasSuffix(key, "#") {
		return key + "*"
	}
	return key
}

func (f *filed) grant() Grant {
	r := f.record
	g := Grant{
		ID: r.ID, Owner: r.Owner, Expiry: lastDay(r.NotAfterNS), Provider: r.Provider, Scoping: r.Scoping,
		NamespaceSelector: r.NamespaceLabels, ServiceAccounts: unique(f.accounts),
		Secrets: unique(f.secrets), Audiences: r.Audiences, OwnerUID: r.OwnerUID,
		SyncTargets: r.SyncTargets, ImageSigners: r.ImageSigners,
	}
	if len(r.NamespaceLabels) == 0 {
		g.Namespaces = unique(f.scopes)
	}
	if r.MaxFileMode != nil {
		g.MaxFileMode = new(fmt.Sprintf("0%03o", *r.MaxFileMode))
	}
	if p := r.Pods; p != nil {
		g.Pods = &Pods{OwnerKinds: p.OwnerKinds, OwnerNames: p.OwnerNames, ImageRepositories: p.ImageRepositories, NamePatterns: p.NamePatterns}
	}
	return g
}

// lastDay is the inverse of policies.EndOfDate.
func lastDay(ns int64) string {
	return time.Unix(0, ns).UTC().AddDate(0, 0, -1).Format(time.DateOnly)
}

func waiversOf(d waiversDocument) []Waiver {
	var waivers []Waiver
	for finding, bySubject := range d.ByFinding {
		for subject, records := range bySubject {
			namespace, account, _ := strings.Cut(subject, "/")
			for _, r := range records {
				waivers = append(waivers, Waiver{
					ID: r.ID, Finding: finding, Namespace: namespace, ServiceAccount: account, Secret: r.Secret,
					Reason: r.Reason, Ticket: r.Ticket, ApprovedBy: r.ApprovedBy, Expiry: lastDay(r.NotAfterNS),
				})
			}
		}
	}
	slices.SortStableFunc(waivers, func(a, b Waiver) int { return strings.Compare(a.ID, b.ID) })
	return waivers
}
