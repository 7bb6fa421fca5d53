package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/policies/explain"
	"github.com/portcullis-csi/portcullis/policies/replay"
)

// maxReplayed bounds how many decisions a report lists.
const maxReplayed = 1000

// replayReport is the form of --output json: for machines, stable, and bounded.
type replayReport struct {
	replay.Report
	Listed   []replayed `json:"listed"`
	Unlisted int64      `json:"unlisted"` // beyond the bound of the list

	verbose bool
}

// replayed is one decision that is not the same, or could not be made again.
type replayed struct {
	Time       time.Time      `json:"time"`
	EventID    string         `json:"eventId"`
	Epoch      int64          `json:"epoch"`
	Index      int64          `json:"index"`
	DecisionID string         `json:"decisionId"`
	Effect     string         `json:"effect"`
	Outcome    replay.Outcome `json:"outcome"`
	Differs    []string       `json:"differs,omitempty"`
	Again      explain.Effect `json:"again,omitempty"` // the effect, where Outcome is different
	Cause      string         `json:"cause,omitempty"`
}

func (r *replayReport) list(one replay.Result) {
	contradicts := slices.Contains([]replay.Outcome{replay.Different, replay.InputAltered}, one.Outcome)
	if one.Outcome == replay.Same || !contradicts && !r.verbose {
		return
	}
	if len(r.Listed) == maxReplayed {
		r.Unlisted++
		return
	}
	of := one.Recorded
	d := replayed{
		Time: of.Time, EventID: of.EventID, Epoch: of.Epoch, Index: of.Index, DecisionID: of.DecisionID, Effect: of.Effect,
		Outcome: one.Outcome, Differs: one.Differs,
	}
	if one.Outcome == replay.Different {
		d.Again = explain.EffectOf(one.Again)
	}
	if one.Err != nil {
		d.Cause = one.Err.Error()
	}
	r.Listed = append(r.Listed, d)
}

// outcomeWords says what an outcome is to a reader.
func outcomeWords(o replay.Outcome) string {
	switch o {
	case replay.Same:
		return "the same"
	case replay.Different:
		return "DIFFERENT"
	case replay.InputAltered:
		return "with an INPUT that is NOT the one recorded"
	case replay.InputGone:
		return "whose input is gone"
	case replay.BundleGone:
		return "whose bundle is gone or does not compile"
	case replay.OtherLibrary:
		return "of another version of Portcullis"
	case replay.NoVerdict:
		return "that had no verdict"
	default:
		return string(o)
	}
}

func printReplay(out io.Writer, r *replayReport) {
	for i := range r.Listed {
		_, _ = io.WriteString(out, visible(replayLine(&r.Listed[i])))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d recorded decisions\n", r.Decisions)
	for _, o := range replay.Outcomes() {
		if n := r.Outcomes[o]; n > 0 || o == replay.Same {
			fmt.Fprintf(&b, "  %d %s\n", n, outcomeWords(o))
		}
	}
	if r.Unlisted > 0 {
		fmt.Fprintf(&b, "%d more are counted but not listed\n", r.Unlisted)
	}
	_, _ = io.WriteString(out, b.String())
}

// replayLine is one line whatever the record says.
func replayLine(d *replayed) string {
	text := fmt.Sprintf("%s epoch %d index %d decision %s (%s): %s", d.Time.UTC().Format(time.RFC3339), d.Epoch, d.Index, d.DecisionID, d.Effect, outcomeWords(d.Outcome))
	if len(d.Differs) > 0 {
		text += " in " + strings.Join(d.Differs, ", ")
	}
	if d.Again != "" {
		text += "; now " + string(d.Again)
	}
	if d.Cause != "" {
		text += ": " + d.Cause
	}
	return joined(text) + "\n"
}
