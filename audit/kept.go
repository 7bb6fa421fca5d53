package audit

import "github.com/portcullis-csi/portcullis/policies"

// Inputs keeps what decisions were made from, beside the log, so that they can
// be made again. Package audit/inputs has the real one. Neither call waits.
type Inputs interface {
	// Keep takes the canonical text of an input under its SHA-256.
	Keep(sha256 string, text []byte)
	// Seen says that a decision was made from this input, by this bundle.
	Seen(sha256, bundleDigest string)
}

// attach gives an entry the text of its input, which is kept once the event
// will stay. Refusals of a namespace have a share of these too.
func (r *Recorder) attach(n *entry, in *policies.Input) {
	if r.c.Inputs == nil || in == nil || n.event.Policy == nil || n.event.Policy.InputSHA256 == "" {
		return
	}
	text, err := in.Canonical()
	if err != nil {
		return // then it was not decided on either
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if a, refusal := accountOf(n.event); refusal && !r.shares.takeInput(a, int64(len(text))) {
		return
	}
	n.text = text
	n.size += int64(len(text))
}

// keep hands over the input of an event that is in the log or will be.
func (r *Recorder) keep(n *entry) {
	if n.text == nil {
		return
	}
	p := n.event.Policy
	r.c.Inputs.Keep(p.InputSHA256, n.text)
	r.c.Inputs.Seen(p.InputSHA256, p.BundleDigest)
	n.text = nil
}

// refresh says that the input of a decision that is only counted is of use
// still.
func (r *Recorder) refresh(e Event) {
	if p := e.Policy; r.c.Inputs != nil && p != nil && p.InputSHA256 != "" {
		r.c.Inputs.Seen(p.InputSHA256, p.BundleDigest)
	}
}
