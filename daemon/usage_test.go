package daemon_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/audit/audittest"
	"github.com/portcullis-csi/portcullis/daemon"
)

// What a program exits with is for scripts, and what it says before is for people.
func TestExitCode(t *testing.T) {
	misused := daemon.Misuse("--a is missing", "give --a")
	for name, test := range map[string]struct {
		err  error
		code int
		text string
	}{
		"stopped": {nil, 0, ""},
		"failed":  {errors.New("open log: no room"), 1, "prog: open log: no room\n"},
		"misused": {misused, 2, "prog: --a is missing\nhint: give --a\n"},
		"hinted":  {daemon.Misuse("--a: no number; hint: give digits", "see --help"), 2, "prog: --a: no number\nhint: give digits\n"},
		"wrapped": {fmt.Errorf("start: %w", misused), 2, "prog: start: --a is missing\nhint: give --a\n"},
	} {
		var b strings.Builder
		if code := daemon.ExitCode(&b, "prog", test.err); code != test.code || b.String() != test.text {
			t.Errorf("%s: ExitCode(%v) = %d %q, want %d %q", name, test.err, code, b.String(), test.code, test.text)
		}
	}
}

// A name that no event can have would stop a program later, with a log that
// nothing can be written to.
func TestClusterNameIsOneThatEventsCanHave(t *testing.T) {
	r, l := audittest.New(t)
	r.Owe(audit.DriverStarted())
	event := audittest.Closed(t, r, l)[0]
	for name, want := range map[string]bool{
		"prod-eu1": true, "Prod.EU_1": true, strings.Repeat("x", 253): true,
		"": false, strings.Repeat("x", 254): false, "arn:aws:eks:eu-west-1:123456789012:cluster/prod": false, "a b": false, "a\n": false, "-a": false,
	} {
		err := daemon.CheckClusterName(name)
		if (err == nil) != want || !want && daemon.ExitCode(&strings.Builder{}, "", err) != 2 {
			t.Errorf("CheckClusterName(%q) = %v, want that it is taken: %v", name, err, want)
		}
		event.Source.Cluster = name
		if err := event.Validate(); (err == nil) != want {
			t.Errorf("an event of the cluster %q: %v, want that it is valid: %v", name, err, want)
		}
	}
}

func TestDriverNameIsOneOfCSI(t *testing.T) {
	for name, want := range map[string]bool{
		"secrets-store.csi.k8s.io": true, "Secrets.example": true, strings.Repeat("a", 63): true,
		"": false, strings.Repeat("a", 64): false, "a b": false, "-a": false, "a_b": false, "a..b": false, "a.-b": false, "a\n": false,
		"\u212a.example": false, // KELVIN SIGN, which lower case makes a k
	} {
		if err := daemon.CheckDriverName(name); (err == nil) != want {
			t.Errorf("CheckDriverName(%q) = %v, want that it is taken: %v", name, err, want)
		}
	}
}

func TestAuditFlagsHoldTwoEpochs(t *testing.T) {
	for _, test := range []struct {
		flags daemon.AuditFlags
		want  bool
	}{
		{daemon.AuditFlags{RetentionBytes: 1 << 30, EpochBytes: 64 << 20}, true},
		{daemon.AuditFlags{RetentionBytes: 2 << 20, EpochBytes: 1 << 20}, true},
		{daemon.AuditFlags{RetentionBytes: 2<<20 - 1, EpochBytes: 1 << 20}, false},
		{daemon.AuditFlags{RetentionBytes: 1 << 30, EpochBytes: 1<<20 - 1}, false},
		{daemon.AuditFlags{RetentionBytes: -1, EpochBytes: 1 << 20}, false},
	} {
		if err := test.flags.Check("see --help"); (err == nil) != test.want {
			t.Errorf("%+v: %v, want that they are taken: %v", test.flags, err, test.want)
		}
	}
}
