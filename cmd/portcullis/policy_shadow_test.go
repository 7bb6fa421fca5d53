package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/audit/admin"
	portcullis "github.com/portcullis-csi/portcullis/cmd/portcullis"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/shadow"
)

// serial numbers a bundle.
func serial(n string) policiestest.Option {
	return policiestest.WithFile(".manifest", strings.Replace(policiestest.Manifest, `"serial":1`, `"serial":`+n, 1))
}

// shadowed is a node whose candidate has seen some decisions.
type shadowed struct {
	active, candidate *policies.Engine
	live              []string // UIDs of the pods that have a volume
	decided           []string // UIDs of those that were decided on
}

// serveShadow serves the report of a node, and returns the socket.
func serveShadow(t *testing.T, n shadowed) string {
	t.Helper()
	s, err := shadow.New(shadow.Config{
		Active: func() *policies.Engine { return n.active }, Candidate: func() *policies.Engine { return n.candidate },
		Live: func() iter.Seq2[string, string] {
			return func(yield func(string, string) bool) {
				for _, uid := range n.live {
					if !yield(uid, "secrets") {
						return
					}
				}
			}
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go s.Run(ctx)
	for _, uid := range n.decided {
		s.Observe(n.active.Decide(ctx, policiestest.Input(func(in *policies.Input) {
			in.Subject.PodUID, in.Pod.Owner = uid, &policies.Owner{Kind: "StatefulSet", Name: "api-\x1b[31m" + uid}
		})))
	}
	for n.candidate != nil && s.Report().Compared < int64(len(n.decided)) {
		select {
		case <-ctx.Done():
			t.Fatal("the decisions are not compared")
		default:
		}
	}
	return serveAdmin(t, cancel, s.JSON)
}

func serveAdmin(t *testing.T, stop func(), report func() ([]byte, error)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "admin") //nolint:usetesting // t.TempDir() could be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, admin.SocketName)
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := hardening.ListenPrivate(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- admin.Serve(ctx, listener, admin.Config{
			Log: noLog{}, Shadow: report, Logger: slog.New(slog.DiscardHandler),
			Peer: func(c net.Conn) error { return hardening.CheckPeer(c, []int{os.Geteuid()}) },
		})
	}()
	t.Cleanup(func() {
		stop()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve() = %v, want no error", err)
		}
		_ = os.RemoveAll(dir)
	})
	return path
}

// noLog is a log that nobody asks.
type noLog struct{ admin.Log }

// ask runs portcullis policy shadow and returns what it prints.
func ask(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	cmd := portcullis.Command()
	var text bytes.Buffer
	cmd.SetOut(&text)
	cmd.SetArgs(append([]string{"policy", "shadow"}, args...))
	err = cmd.ExecuteContext(t.Context())
	return text.String(), err
}

func TestPolicyShadowSaysWhatFlipsAndWhetherEnoughWasCompared(t *testing.T) {
	active := policiestest.Engine(t, policiestest.Grants, serial("4"))
	denies, same, low := policiestest.Engine(t, "", serial("5")), policiestest.Engine(t, policiestest.Grants, serial("6")), policiestest.Engine(t, policiestest.Grants, serial("3"))
	for name, tt := range map[string]struct {
		node shadowed
		code int
		says []string // in the output or the error
	}{
		"flips": {shadowed{active, denies, []string{"u-1"}, []string{"u-1", "u-2"}}, 3, []string{
			`would break  allow -> deny  StatefulSet payments/api-\x1b[31mu-1, volume secrets, class db`, "PR-001 high: ",
			"2 decisions compared", "1 of 1 volumes that are mounted now were compared", "2 flip, 0 change otherwise", "  2 would break", "  by rule: PR-001 2", "  by namespace: payments 2",
			"active     serial 4, sha256:", "candidate  serial 5, sha256:", ", not signed",
		}},
		"flips, and some are missing": {shadowed{active, denies, []string{"u-1", "u-9"}, []string{"u-1"}}, 3, []string{"not yet: u-9/secrets"}},
		"nothing flips":               {shadowed{active, same, []string{"u-1"}, []string{"u-1"}}, 0, []string{"0 flip, 0 change otherwise"}},
		"nothing flips yet":           {shadowed{active, same, []string{"u-1", "u-2"}, []string{"u-1"}}, 1, []string{"only 1 of 2 volumes of this node were compared"}},
		"nothing compared":            {shadowed{active, same, nil, nil}, 1, []string{"nothing was compared yet"}},
		"no candidate":                {shadowed{active, nil, nil, []string{"u-1"}}, 1, []string{"candidate  none", "nothing was compared: no candidate bundle is loaded"}},
		"in force":                    {shadowed{active, active, nil, nil}, 1, []string{"nothing was compared: the candidate is the bundle in force"}},
		"serial too low":              {shadowed{active, low, nil, []string{"u-1"}}, 1, []string{"the candidate's serial 3 is not above the active bundle's 4"}},
	} {
		t.Run(name, func(t *testing.T) {
			socket := serveShadow(t, tt.node)
			out, err := ask(t, "--socket", socket)
			said := out
			if err != nil {
				said += err.Error()
			}
			for _, want := range tt.says {
				if !strings.Contains(said, want) {
					t.Errorf("policy shadow does not say %q, but:\n%s", want, said)
				}
			}
			if strings.Contains(out, "\x1b") {
				t.Errorf("policy shadow prints an escape sequence:\n%q", out)
			}
			if code := portcullis.Run([]string{"policy", "shadow", "--socket", socket, "--output", "json"}); code != tt.code {
				t.Errorf("policy shadow ends with %d, want %d", code, tt.code)
			}
		})
	}
}

func TestPolicyShadowAsJSONIsTheReport(t *testing.T) {
	socket := serveShadow(t, shadowed{policiestest.Engine(t, policiestest.Grants, serial("4")), policiestest.Engine(t, "", serial("5")), nil, []string{"u-1"}})
	out, _ := ask(t, "--socket", socket, "--output", "json")
	var r shadow.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if r.Compared != 1 || r.Flips[shadow.Breaks] != 1 || len(r.Flipped) != 1 || r.Flipped[0].Kind != shadow.Breaks || r.Flipped[0].Workload.Namespace != "payments" {
		t.Errorf("the JSON holds %+v, want one flip of payments", r)
	}
}

func TestPolicyShadowOfThePeriodBefore(t *testing.T) {
	before := shadow.Report{Compared: 7, Candidate: shadow.Bundle{Digest: "sha256:b", Serial: 8}, Flips: map[shadow.Kind]int64{shadow.Opens: 2}}
	now := shadow.Report{Compared: 1, Candidate: shadow.Bundle{Digest: "sha256:a", Serial: 9}}
	for _, tt := range []struct {
		previous *shadow.Report
		code     int
		says     string
	}{{&before, 3, "candidate  serial 8"}, {nil, 1, "there is no period before this one"}} {
		now.Previous = tt.previous
		text, err := json.Marshal(now)
		if err != nil {
			t.Fatal(err)
		}
		socket := serveAdmin(t, func() {}, func() ([]byte, error) { return text, nil })
		out, err := ask(t, "--socket", socket, "--previous")
		if err != nil {
			out += err.Error()
		}
		if code := portcullis.Run([]string{"policy", "shadow", "--previous", "--socket", socket}); code != tt.code || !strings.Contains(out, tt.says) {
			t.Errorf("policy shadow --previous ends with %d and says %q, want %d and %q", code, out, tt.code, tt.says)
		}
	}
}

func TestPolicyShadowOfAPluginWithoutACandidate(t *testing.T) {
	for says, report := range map[string]func() ([]byte, error){
		"no candidate policy is compared":          nil,
		"the plugin sent no report of a candidate": func() ([]byte, error) { return []byte("[]"), nil },
	} {
		socket := serveAdmin(t, func() {}, report)
		if _, err := ask(t, "--socket", socket); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("policy shadow = %v, want an error that says %q", err, says)
		}
		if code := portcullis.Run([]string{"policy", "shadow", "--socket", socket}); code != 1 {
			t.Errorf("policy shadow ends with %d, want 1", code)
		}
	}
	if code := portcullis.Run([]string{"policy", "shadow", "--output", "yaml"}); code != 2 {
		t.Errorf("policy shadow in a form that there is none of ends with %d, want 2", code)
	}
}
