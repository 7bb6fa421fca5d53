//go:build attack

package attack_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/portcullis-csi/portcullis/audit"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// events verifies the log of a plugin that has ended, as portcullis audit
// verify does, and returns what it holds.
func (n *node) events() []audit.Event {
	n.t.Helper()
	files, err := filepath.Glob(n.path("state/audit/epoch-*.db"))
	if err != nil || len(files) == 0 {
		n.t.Fatalf("epochs of the log = %q, %v, want some", files, err)
	}
	var events []audit.Event
	for _, file := range files {
		more, err := n.verified(file)
		if err != nil {
			n.t.Fatal(err)
		}
		events = append(events, more...)
	}
	return events
}

// auditVerify runs the program that an auditor would.
func (n *node) auditVerify() {
	n.t.Helper()
	if out, err := n.runAuditVerify(); err != nil || !strings.HasPrefix(out, "OK: ") {
		n.t.Fatalf("portcullis audit verify: %v\n%s", err, out)
	}
}

func (n *node) runAuditVerify() (string, error) {
	n.t.Helper()
	cmd := exec.CommandContext(n.t.Context(), program(n.t, "portcullis", ""), "audit", "verify", "--file", n.path(logFile))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// eventsNow does so with a copy of the log of a plugin that runs. A copy that
// was taken while the plugin wrote need not verify.
func (n *node) eventsNow() ([]audit.Event, error) {
	copied := n.path("copy.db")
	if err := os.WriteFile(copied, n.read(logFile), 0o600); err != nil {
		return nil, err
	}
	return n.verified(copied)
}

func (n *node) verified(file string) ([]audit.Event, error) {
	var events []audit.Event
	_, err := auditlog.Verify(n.t.Context(), auditlog.VerifyConfig{
		Path: file, VKey: string(n.read(vkeyFile)),
		Each: func(_ auditlog.Position, leaf []byte) error {
			e, err := audit.Parse(leaf)
			events = append(events, e)
			return err
		},
	})
	return events, err
}

// history is what a log tells of deliveries.
type history struct {
	intents []audit.Event
	ends    map[string][]audit.Event // of intents, by their id
	others  []audit.Event
}

func historyOf(events []audit.Event) history {
	h := history{ends: map[string][]audit.Event{}}
	intents := map[string]bool{}
	for _, e := range events {
		switch {
		case e.Stage == audit.StageIntent:
			intents[e.ID] = true
			h.intents = append(h.intents, e)
		case e.Stage == audit.StageComplete && intents[e.ParentID]:
			h.ends[e.ParentID] = append(h.ends[e.ParentID], e)
		default:
			h.others = append(h.others, e)
		}
	}
	return h
}

// check returns an error unless every intent has exactly one end, where those
// of one pod may still be open.
func (h history) check(mayBeOpen string) error {
	for _, in := range h.intents {
		switch ends := h.ends[in.ID]; {
		case len(ends) == 1:
		case len(ends) == 0 && in.Workload.PodUID == mayBeOpen:
		default:
			return fmt.Errorf("intent %s of pod %s has %d ends, want 1", in.ID, in.Workload.PodUID, len(ends))
		}
	}
	return nil
}

// of returns the history of one pod.
func (h history) of(p pod) history {
	own := history{ends: h.ends}
	for _, in := range h.intents {
		if in.Workload.PodUID == p.uid {
			own.intents = append(own.intents, in)
		}
	}
	for _, e := range h.others {
		if e.Workload != nil && e.Workload.PodUID == p.uid {
			own.others = append(own.others, e)
		}
	}
	return own
}

// mustHave returns an error unless an event of this type says that it
// succeeded: a delivery or an unmount that nobody can look up later.
func (h history) mustHave(t audit.Type) error {
	for _, e := range h.others {
		if e.Type == t && e.Outcome == audit.OutcomeSuccess {
			return nil
		}
	}
	return fmt.Errorf("no event of type %s and outcome success", t)
}
