package policies

import (
	"encoding/json"
	"fmt"
	"time"
)

// Recorded is one decision as a log remembers it, with the input it was made
// from where that is still kept: a line of JSON that audit input --all writes and
// policy diff, eval and learn read.
type Recorded struct {
	Time    time.Time `json:"time"`
	EventID string    `json:"eventId"`
	Epoch   int64     `json:"epoch"` // of the log
	Index   int64     `json:"index"` // within the epoch

	DecisionID    string   `json:"decisionId"`
	Effect        string   `json:"effect"` // allow, allowed_monitored, deny or error
	Phase         Phase    `json:"phase"`
	LibraryDigest string   `json:"libraryDigest"`
	BundleDigest  string   `json:"bundleDigest"`
	BundleSerial  int64    `json:"bundleSerial,omitempty"`
	InputSHA256   string   `json:"inputSha256"`
	NowNS         int64    `json:"nowNs"`
	Deny          []string `json:"deny,omitempty"` // ids of rules, sorted
	Warn          []string `json:"warn,omitempty"`
	Grants        []string `json:"grants,omitempty"`
	Waivers       []string `json:"waivers,omitempty"`
	Repeated      int64    `json:"repeated,omitempty"` // equal decisions that were only counted

	// Input is the canonical text without now_ns; absent: it was dropped.
	Input json.RawMessage `json:"input,omitempty"`
}

// ReadInput returns the input whose canonical text this is, at the time that the
// decision was made. What the engine would not have decided on is an error.
func ReadInput(text []byte, nowNS int64) (Input, error) {
	var in Input
	if err := DecodeStrictly(text, &in); err != nil {
		return Input{}, fmt.Errorf("read recorded input: %w", err)
	}
	in.NowNS = nowNS
	if err := in.Validate(); err != nil {
		return Input{}, fmt.Errorf("read recorded input: %w", err)
	}
	return in, nil
}

// Canonical returns the text that Decision.InputSHA256 is the digest of: JSON
// with sorted maps, no null, and now_ns zero.
func (in Input) Canonical() ([]byte, error) { return in.canonical() }
