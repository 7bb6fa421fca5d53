package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/portcullis-csi/portcullis/audit"
	auditlog "github.com/portcullis-csi/portcullis/audit/log"
)

// The log, and its first epoch, which no demo fills.
const (
	demoLog   = "state/audit"
	demoEpoch = demoLog + "/epoch-0000000001.db"
)

// playVerify stops the plugin, shows what it recorded, and verifies it the way
// an auditor would.
func playVerify(ctx context.Context, s *stage, n *narrator) error {
	if err := s.plugin.stop(); err != nil {
		return fmt.Errorf("stop the plugin: %w", err)
	}
	events, err := s.readEvents(ctx)
	if err != nil {
		return err
	}
	n.line("the log, one line an event:")
	for i, e := range events {
		n.line("  %2d %-8s %-19s %-8s %-14s %s", i, e.Code, e.Type, e.Outcome, podOf(e), detailOf(e))
	}
	var out bytes.Buffer
	if err := verifyMain(ctx, verifyOptions{logOptions: logOptions{file: s.path(demoLog)}, output: output{form: outputText, out: &out}}, io.Discard); err != nil {
		return err
	}
	n.line("portcullis audit verify --file %s", demoLog)
	for line := range bytes.Lines(out.Bytes()) {
		n.line("  %s", bytes.TrimRight(line, "\n"))
	}
	n.asTold("the log is complete and unaltered, each delivery has its decision and its end")
	return nil
}

func (s *stage) readEvents(ctx context.Context) ([]audit.Event, error) {
	key, err := os.ReadFile(s.path("state/audit/" + auditlog.VKeyFileName))
	if err != nil {
		return nil, err
	}
	var events []audit.Event
	_, err = auditlog.Verify(ctx, auditlog.VerifyConfig{
		Path: s.path(demoLog), VKey: string(bytes.TrimSpace(key)),
		Each: func(_ auditlog.Position, leaf []byte) error {
			e, err := audit.Parse(leaf)
			events = append(events, e)
			return err
		},
	})
	return events, err
}

func podOf(e audit.Event) string {
	if e.Workload == nil {
		return ""
	}
	return e.Workload.Pod
}

func detailOf(e audit.Event) string {
	text := string(e.Stage)
	if e.Reason != "" {
		text += " " + string(e.Reason)
	}
	if e.Policy != nil {
		if e.Outcome == audit.OutcomeUnknown {
			text += " effect " + string(e.Policy.Effect)
		}
		for _, r := range e.Policy.Rules {
			if r.Denies {
				text += " " + r.ID
			}
		}
	}
	if len(e.Files) > 0 {
		text += fmt.Sprintf(" %d files", len(e.Files))
	}
	return strings.TrimSpace(text)
}

// playTampered turns a denial into something else in a copy of the log, as
// somebody would who wants it forgotten.
func playTampered(ctx context.Context, s *stage, n *narrator) error {
	good, err := os.ReadFile(s.path(demoEpoch))
	if err != nil {
		return err
	}
	denied, allowed := []byte(`"outcome":"denied"`), []byte(`"outcome":"forged"`)
	if !bytes.Contains(good, denied) {
		return errors.New("no denial found in the log")
	}
	copied := s.path("state/tampered.db")
	if err := os.WriteFile(copied, bytes.ReplaceAll(good, denied, allowed), 0o600); err != nil {
		return err
	}
	err = verifyMain(ctx, verifyOptions{logOptions: logOptions{file: copied, key: s.path("state/audit/" + auditlog.VKeyFileName)}, output: output{form: outputText, out: io.Discard}}, io.Discard)
	if err == nil {
		return errors.New("the tampered copy was verified")
	}
	n.line("portcullis: %v", err)
	n.asTold("the altered copy is refused, and the event is named")
	return nil
}
