package replay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/portcullis-csi/portcullis/policies"
)

// Outcome is what became of one record.
type Outcome string

// The outcomes.
const (
	Same         Outcome = "same"          // the same verdict, id, rules, grants and waivers
	Different    Outcome = "different"     // see Result.Differs
	InputGone    Outcome = "input_gone"    // the input is not kept any more
	InputAltered Outcome = "input_altered" // it is not the one that was recorded, or none at all
	BundleGone   Outcome = "bundle_gone"   // the bundle is not kept any more, or is another one
	OtherLibrary Outcome = "other_library" // another version of Portcullis decided
	NoVerdict    Outcome = "no_verdict"    // there was none, for a cause that is no fact
)

// Outcomes returns all of them, in the order in which a report has them.
func Outcomes() []Outcome {
	return []Outcome{Same, Different, InputGone, InputAltered, BundleGone, OtherLibrary, NoVerdict}
}

// Bundles returns the bundle with this digest.
type Bundles func(digest string) (policies.Bundle, error)

// Result is one record that was made again, or could not be.
type Result struct {
	Recorded policies.Recorded
	Outcome  Outcome
	Again    policies.Decision // the zero Decision where none was made
	Differs  []string          // the fields of Recorded that do, where Outcome is Different
	Err      error             // why it could not be made again, where there is more to say
}

// Report counts the outcomes.
type Report struct {
	Decisions int64             `json:"decisions"`
	Outcomes  map[Outcome]int64 `json:"outcomes"`
}

// Agrees reports whether nothing contradicts the records. What could not be made
// again contradicts nothing.
func (r Report) Agrees() bool { return r.Outcomes[Different] == 0 && r.Outcomes[InputAltered] == 0 }

// Replay makes each recorded decision again. The error is one of the records'
// own, of each, or of ctx; each may be nil.
func Replay(ctx context.Context, records iter.Seq2[policies.Recorded, error], bundles Bundles, each func(Result) error) (Report, error) {
	if bundles == nil {
		return Report{}, errors.New("replay decisions: no source of bundles")
	}
	report := Report{Outcomes: map[Outcome]int64{}}
	engines := &engines{bundles: bundles}
	library, err := policies.LibraryDigest()
	if err != nil {
		return report, err
	}
	for r, err := range records {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return report, fmt.Errorf("replay decisions: %w", err)
		}
		result := one(ctx, r, library, engines)
		if err := ctx.Err(); err != nil {
			// What was interrupted is undecided, and differs from nothing.
			return report, fmt.Errorf("replay decisions: %w", err)
		}
		report.Decisions++
		report.Outcomes[result.Outcome]++
		if each == nil {
			continue
		}
		if err := each(result); err != nil {
			return report, err
		}
	}
	return report, nil
}

func one(ctx context.Context, r policies.Recorded, library string, engines *engines) Result {
	out := Result{Recorded: r}
	switch {
	case r.Effect == effectError:
		out.Outcome = NoVerdict
		return out
	case len(r.Input) == 0:
		out.Outcome = InputGone
		return out
	case r.LibraryDigest != library:
		out.Outcome = OtherLibrary
		return out
	}
	in, err := policies.ReadInput(r.Input, r.NowNS)
	if err != nil {
		out.Outcome, out.Err = InputAltered, err
		return out
	}
	engine, err := engines.get(ctx, r)
	if err != nil {
		out.Outcome, out.Err = BundleGone, err
		return out
	}
	out.Again = engine.Decide(ctx, in)
	if out.Again.InputSHA256 != r.InputSHA256 {
		out.Outcome = InputAltered
		return out
	}
	out.Outcome = Same
	if out.Differs = differences(r, out.Again); len(out.Differs) > 0 {
		out.Outcome, out.Err = Different, out.Again.Cause()
	}
	return out
}

// The words of Recorded.Effect.
const (
	effectAllow     = "allow"
	effectMonitored = "allowed_monitored"
	effectDeny      = "deny"
	effectError     = "error"
)

func effectOf(d policies.Decision) string {
	switch {
	case d.Verdict() == policies.VerdictAllow && d.Monitored():
		return effectMonitored
	case d.Verdict() == policies.VerdictAllow:
		return effectAllow
	case d.Verdict() == policies.VerdictDeny:
		return effectDeny
	default:
		return effectError
	}
}

// differences returns the JSON names of the fields that differ.
func differences(r policies.Recorded, d policies.Decision) []string {
	var names []string
	for _, f := range []struct {
		name string
		same bool
	}{
		{"effect", r.Effect == effectOf(d)},
		{"decisionId", r.DecisionID == d.ID},
		{"deny", sameNames(r.Deny, policies.RuleIDs(d.Deny))},
		{"warn", sameNames(r.Warn, policies.RuleIDs(d.Warn))},
		{"grants", sameNames(r.Grants, d.Grants)},
		{"waivers", sameNames(r.Waivers, d.Waivers)},
	} {
		if !f.same {
			names = append(names, f.name)
		}
	}
	return names
}

// sameNames compares sets. A name that an event could not hold stands in it by
// its SHA-256.
func sameNames(recorded, again []string) bool {
	recorded, again = distinct(recorded), distinct(again)
	if len(recorded) != len(again) {
		return false
	}
	for _, name := range again {
		sum := sha256.Sum256([]byte(name))
		if !slices.Contains(recorded, name) && !slices.Contains(recorded, "sha256:"+hex.EncodeToString(sum[:])) {
			return false
		}
	}
	return true
}

func distinct(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}
