package policies

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"
)

// firstOwnRule is the lowest rule id that a bundle may use; those below belong
// to the library and cannot be waived, except for overridden parameters.
const firstOwnRule = "PR-200"

const ruleOverrides = "PR-010"

// maxGrantsOfKey bounds the grants that a decision judges for one of the keys of
// a request, so that a long list cannot take its budget: nobody would be served.
const maxGrantsOfKey = 64

// check refuses an index that the library would read differently from what its
// author meant. It is the only check of an index that did not come from YAML.
func (x GrantIndex) check() *BundleError {
	for subject, bySecret := range x {
		if strings.Count(strings.TrimPrefix(subject, "label:"), "/") == 0 || strings.HasPrefix(subject, "*/") {
			return &BundleError{fmt.Sprintf("grants of subject %q", subject), "not a subject key", "build the index with portcullis policy build"}
		}
		for key, records := range bySecret {
			if !ValidSecretKey(key) {
				return &BundleError{fmt.Sprintf("grants of secret %q", key), "not a secret key", "build the index with portcullis policy build"}
			}
			if len(records) > maxGrantsOfKey {
				return &BundleError{fmt.Sprintf("grants of secret %q to subject %q", key, subject), fmt.Sprintf("are more than %d", maxGrantsOfKey), "merge them, or name secrets and subjects more closely"}
			}
			for _, g := range records {
				if err := g.check(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (g GrantRecord) check() *BundleError {
	part := entryPart("grant", g.ID)
	switch {
	case g.ID == "" || g.Owner == "" || g.Provider == "":
		return &BundleError{part, "id, owner or provider is missing", "give all three"}
	case g.NotAfterNS <= 0:
		return &BundleError{part, "expiry is missing", "give an RFC 3339 date"}
	case g.Scoping == nil:
		return &BundleError{part, "scoping is missing", "use an empty object where the class sets no scoping parameter"}
	case g.emptyList():
		return &BundleError{part, "audiences, sync_targets, image_signers or pods is empty", "leave it out, or name at least one"}
	case g.MaxFileMode != nil && !grantableMode(fs.FileMode(*g.MaxFileMode)):
		return &BundleError{part, fmt.Sprintf("maxFileMode is %#o", *g.MaxFileMode), `use read bits only, such as "0440"`}
	case g.OwnerUID != nil && !validID(*g.OwnerUID):
		return &BundleError{part, fmt.Sprintf("ownerUID is %d", *g.OwnerUID), "use a user id between 0 and 4294967294"}
	}
	return nil
}

// emptyList reports whether the record has a restriction that restricts nothing:
// its author meant nobody, and the library would take it for everybody.
func (g GrantRecord) emptyList() bool {
	lists := [][]string{g.Audiences, g.SyncTargets, g.ImageSigners}
	if p := g.Pods; p != nil {
		narrowing := [][]string{p.OwnerKinds, p.OwnerNames, p.ImageRepositories, p.NamePatterns}
		if len(slices.Concat(narrowing...)) == 0 {
			return true
		}
		lists = append(lists, narrowing...)
	}
	return slices.ContainsFunc(lists, func(list []string) bool { return list != nil && len(list) == 0 })
}

// grantableMode reports whether a mode has read bits and nothing else.
func grantableMode(m fs.FileMode) bool { return m != 0 && m&^ceilingWithoutGroup == 0 }

// validID reports whether Linux knows a user or group of this number; 2^32-1
// means "leave as it is" to chown(2).
func validID(id int64) bool { return id >= 0 && id < 1<<32-1 }

// Waivable reports whether a bundle may waive the rule: overridden parameters,
// and rules of its own that do not say otherwise.
func Waivable(rule string) bool {
	return rulePattern.MatchString(rule) && (rule >= firstOwnRule || rule == ruleOverrides)
}

// check refuses waivers of what cannot be waived, and those without an end.
func (x WaiverIndex) check(now time.Time) []*BundleError {
	var errs []*BundleError
	for _, id := range slices.Sorted(maps.Keys(x)) {
		if !Waivable(id) {
			errs = append(errs, &BundleError{fmt.Sprintf("waivers of %q", id), "this rule cannot be waived", "only PR-010 and the rules of the bundle can"})
		}
		for subject, records := range x[id] {
			if strings.Count(subject, "/") != 1 || strings.HasPrefix(subject, "*") || strings.HasPrefix(subject, "/") {
				errs = append(errs, &BundleError{fmt.Sprintf("waivers of subject %q", subject), "names no namespace", "use <namespace>/<service account>"})
			}
			for _, w := range records {
				if err := w.check(now); err != nil {
					errs = append(errs, err)
				}
			}
		}
	}
	return errs
}

func (w WaiverRecord) check(now time.Time) *BundleError {
	part := entryPart("waiver", w.ID)
	if w.ID == "" || w.Reason == "" || w.Ticket == "" || w.ApprovedBy == "" {
		return &BundleError{part, "id, reason, ticket or approvedBy is missing", "give all four"}
	}
	if w.Secret != nil && !ValidSecret(*w.Secret) {
		return &BundleError{part, "secret is not a secret id", "name one secret as findings do, or leave it out for every secret"}
	}
	if end := time.Unix(0, w.NotAfterNS); w.NotAfterNS <= 0 || end.Sub(now) > maxBundleLifetime {
		return &BundleError{part + ": expiry", "expiry is missing or more than 90 days off", "give a date at most 90 days off"}
	}
	return nil
}
