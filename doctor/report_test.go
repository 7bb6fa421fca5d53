package doctor_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/doctor"
)

var update = flag.Bool("update", false, "rewrite the table of checks in docs/OPERATIONS.md")

// Where nothing is wrong every check says so, once.
func TestNothingIsWrong(t *testing.T) {
	r := doctor.Run(good())
	seen := map[string]int{}
	for _, result := range r.Results {
		seen[result.Check]++
		if result.Status == doctor.Warn || result.Status == doctor.Fail || result.Hint != "" {
			t.Errorf("%s = %s %s; %s, want OK", result.Check, result.Status, result.Finding, result.Hint)
		}
	}
	for _, c := range doctor.Checks() {
		if seen[c.ID] == 0 {
			t.Errorf("check %s says nothing", c.ID)
		}
	}
	if !r.Healthy(true) || !r.Looked() {
		t.Errorf("Healthy(true), Looked() = %t, %t, want true", r.Healthy(true), r.Looked())
	}
}

// Every check can say something bad, and then it says what to do.
func TestEveryCheckCanFail(t *testing.T) {
	fails := map[string]bool{}
	for _, list := range [][]bad{badNodes(), badObjects(), badDaemonSets(), badWorkloads(t), badWebhooks(t), badPolicies()} {
		for _, b := range list {
			f := good()
			b.change(f)
			for _, r := range doctor.Run(f).Results {
				wrong := r.Status == doctor.Warn || r.Status == doctor.Fail
				if wrong && r.Hint == "" {
					t.Errorf("%s (%s) = %s %s, without a hint", r.Check, b.name, r.Status, r.Finding)
				}
				fails[r.Check] = fails[r.Check] || wrong
			}
		}
	}
	for _, c := range doctor.Checks() {
		if !fails[c.ID] && c.ID != "kernel.fchmodat2" {
			t.Errorf("no situation makes %s say WARN or FAIL", c.ID)
		}
	}
}

func TestIdsAreStableWords(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range doctor.Checks() {
		if !regexp.MustCompile(`^[a-z]+(\.[a-z]+(-[a-z0-9]+)*[0-9]?)?$`).MatchString(c.ID) || seen[c.ID] {
			t.Errorf("id %q is not a word of its own", c.ID)
		}
		seen[c.ID] = true
	}
}

// A part that was not looked at is told, and its checks say nothing.
func TestPartsThatAreNotThere(t *testing.T) {
	f := good()
	f.Node, f.NodeWhy = nil, "this is darwin"
	r := doctor.Run(f)
	if len(r.Parts) != 2 || r.Parts[0].Looked || r.Parts[0].Detail != "this is darwin" || !r.Parts[1].Looked {
		t.Errorf("Parts = %+v, want the cluster alone", r.Parts)
	}
	area := map[string]doctor.Area{}
	for _, c := range doctor.Checks() {
		area[c.ID] = c.Area
	}
	for _, result := range r.Results {
		if area[result.Check] == doctor.OfNode {
			t.Errorf("%s has a result without a node", result.Check)
		}
	}
	f.Cluster, f.ClusterWhy = nil, "no kubeconfig"
	if r := doctor.Run(f); r.Looked() || len(r.Results) > 0 || !r.Healthy(true) {
		t.Errorf("Run(nothing) = %+v, want nothing looked at", r)
	}
}

// What comes from outside is bounded, one line, and obeyed by no terminal.
func TestOutsideTextIsPrintable(t *testing.T) {
	f := good()
	f.Node.Registration.Err = errors.New("\x1b[2J" + strings.Repeat("ä\n", 9000))
	for i := range 500 {
		f.Cluster.Classes.Value = append(f.Cluster.Classes.Value, doctor.Class{Namespace: "n", Name: fmt.Sprintf("\x1b[31m%d", i), Provider: "vault", SecretObjects: 1})
	}
	r := doctor.Run(f)
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if bad := regexp.MustCompile(`[^\x20-\x7e\n]`).FindString(text.String()); bad != "" {
		t.Errorf("the report has %q", bad)
	}
	for line := range strings.Lines(text.String()) {
		if len(line) > 1000 {
			t.Errorf("a line of the report has %d bytes", len(line))
		}
	}
	if n := strings.Count(text.String(), "classes.secret-objects"); n != 21 || !strings.Contains(text.String(), "480 more results") {
		t.Errorf("500 bad classes make %d lines, want 20 and one of how many more there are", n)
	}
}

func TestReportAsText(t *testing.T) {
	r := doctor.Report{
		Parts:   []doctor.Part{{Name: doctor.OfNode, Looked: true, Detail: "node1"}, {Name: doctor.OfCluster, Detail: "none"}},
		Results: []doctor.Result{{"a.b", doctor.OK, "fine", ""}, {"c", doctor.Warn, "odd", "mend it"}, {"d", doctor.Fail, "bad", "mend that"}, {"e", doctor.NA, "absent", ""}},
	}
	const want = `node: node1
cluster: n/a, not looked at: none
OK    a.b                          fine
WARN  c                            odd; hint: mend it
FAIL  d                            bad; hint: mend that
n/a   e                            absent
1 OK, 1 WARN, 1 FAIL, 1 n/a
`
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Errorf("WriteText() (-want +got):\n%s", diff)
	}
	if r.Healthy(false) || r.Healthy(true) {
		t.Error("Healthy() = true with a FAIL")
	}
	r.Results = slices.Delete(r.Results, 2, 3)
	if !r.Healthy(false) || r.Healthy(true) {
		t.Errorf("Healthy(false), Healthy(true) = %t, %t with a WARN, want true, false", r.Healthy(false), r.Healthy(true))
	}
	encoded, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(encoded), `{"check":"c","status":"WARN","finding":"odd","hint":"mend it"}`) {
		t.Errorf("Marshal() = %s, %v", encoded, err)
	}
}

// TestDocumentListsEveryCheck: docs/OPERATIONS.md has the checks as they are.
func TestDocumentListsEveryCheck(t *testing.T) {
	const file, begin, end = "../docs/OPERATIONS.md", "<!-- doctor:begin -->\n", "<!-- doctor:end -->"
	var want strings.Builder
	want.WriteString("| check | of | looks at | OK means | otherwise |\n|---|---|---|---|---|\n")
	for _, c := range doctor.Checks() {
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s | %s |\n", c.ID, c.Area, c.Looks, c.Good, c.Bad)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(text), begin)
	got, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no block doctor", file)
	}
	if *update {
		if err := os.WriteFile(file, []byte(head+begin+want.String()+end+tail), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want.String(), got); diff != "" {
		t.Errorf("the table of checks is not current; go test ./doctor -update rewrites it (-want +have):\n%s", diff)
	}
}

// What is not printed counts all the same: the line of how many more there are
// has the gravest status of all.
func TestWhatIsCutOffCounts(t *testing.T) {
	for name, test := range map[string]struct {
		mark byte
		want doctor.Status
	}{"fine": {'+', doctor.OK}, "odd": {'!', doctor.Warn}, "bad": {'-', doctor.Fail}} {
		f := good()
		f.Node.Ready.Value = nil
		for i := range 30 {
			f.Node.Ready.Value = append(f.Node.Ready.Value, doctor.Condition{Name: fmt.Sprint("condition ", i), Mark: '+'})
		}
		f.Node.Ready.Value[29] = doctor.Condition{Name: "the last", Detail: "broken", Mark: test.mark}
		var lines []doctor.Result
		for _, r := range doctor.Run(f).Results {
			if r.Check == "plugin.ready" {
				lines = append(lines, r)
			}
		}
		if len(lines) != 21 || lines[20].Status != test.want || lines[20].Finding != "10 more results" {
			t.Errorf("%s: %d results, the last %+v, want 21 and %s", name, len(lines), lines[len(lines)-1], test.want)
		}
	}
}

// closedPipe is an output that nobody reads.
type closedPipe struct{}

// Write fails.
func (closedPipe) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestReportForNobody(t *testing.T) {
	if err := doctor.Run(good()).WriteText(closedPipe{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("WriteText() = %v, want the error of the output", err)
	}
}
