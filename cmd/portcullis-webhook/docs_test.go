package main_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	webhook "github.com/portcullis-csi/portcullis/cmd/portcullis-webhook"
)

var update = flag.Bool("update", false, "rewrite the table of flags in docs/OPERATIONS.md")

const (
	operations = "../../docs/OPERATIONS.md"
	tableBegin = "<!-- flags:portcullis-webhook:begin -->\n"
	tableEnd   = "<!-- flags:portcullis-webhook:end -->"
)

// flagTable is what the document says of the flags of a release build.
func flagTable() string {
	var b strings.Builder
	b.WriteString("| flag | default | meaning |\n|---|---|---|\n")
	webhook.Flags().VisitAll(func(f *pflag.Flag) {
		def := f.DefValue
		if def == "" || def == "[]" {
			def = "-"
		}
		fmt.Fprintf(&b, "| `--%s` | `%s` | %s |\n", f.Name, strings.Trim(def, "[]"), strings.ReplaceAll(f.Usage, "|", `\|`))
	})
	return b.String()
}

func TestOperationsDocumentsEveryFlag(t *testing.T) {
	if webhook.InsecureBuild {
		t.Skip("the document has the flags of a release build, which the untagged tests compare")
	}
	for _, name := range []string{"POD_NAME", "POD_NAMESPACE"} {
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), tableBegin)
	table, tail, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no block of flags", operations)
	}
	want := flagTable()
	if *update {
		if err := os.WriteFile(operations, []byte(head+tableBegin+want+tableEnd+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, table); diff != "" {
		t.Errorf("flags in %s differ; run make generate (-want +got):\n%s", operations, diff)
	}
}

// Every refusal of a command line names the flag and a remedy.
func TestCommandLines(t *testing.T) {
	good := []string{"--cluster-name=c", "--namespace=n", "--replica=r-0", "--policy=p", "--policy-key=k", "--cert-secret=s"}
	if err := webhook.Accepts(good); err != nil {
		t.Fatalf("%v: %v", good, err)
	}
	for more, want := range map[string]string{
		"--cluster-name=":          "--cluster-name is missing",
		"--cluster-name=a b":       "--cluster-name",
		"--namespace=":             "--namespace is missing",
		"--namespace=A":            "--namespace",
		"--replica=":               "--replica is missing",
		"--replica=a/b":            "--replica",
		"--service=":               "--service is missing",
		"--webhook-configuration=": "--webhook-configuration is missing",
		"--policy=":                "--policy is missing",
		"--cert-secret=":           "--cert-dir and --cert-secret are missing",
		"--cert-secret=A":          "--cert-secret",
		"--cert-dir=d":             "--cert-dir and --cert-secret are both set",
		"--drivername=a b":         "--drivername",
		"--max-in-flight=0":        "--max-in-flight",
		"--drain=0s":               "--drain",
		"--policy-poll-interval=0": "--policy-poll-interval",
		"--audit-epoch-bytes=1":    "--audit-epoch-bytes",
		"--no-such-flag":           "unknown flag",
	} {
		err := webhook.Accepts(append(append([]string{}, good...), more))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", more, err, want)
		}
	}
}

// The document says of every condition of readiness whether it counts.
func TestOperationsDocumentsEveryCondition(t *testing.T) {
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	const name = "conditions:portcullis-webhook:"
	_, rest, ok := strings.Cut(string(text), "<!-- "+name+"begin -->\n| condition | counts | does not hold where |\n|---|---|---|\n")
	table, _, ok2 := strings.Cut(rest, "<!-- "+name+"end -->")
	if !ok || !ok2 {
		t.Fatalf("%s has no block of conditions", operations)
	}
	var have, want []string
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, " | "); len(cells) != 3 || len(cells[2]) < 10 {
			t.Errorf("the row %q does not say when it does not hold", line)
		} else {
			have = append(have, cells[0]+" "+cells[1])
		}
	}
	for _, c := range webhook.Conditions() {
		counts := "yes"
		if c.Warning {
			counts = "warning"
		}
		want = append(want, "| `"+c.Name+"` "+counts)
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("conditions of /readyz (-want +have):\n%s", diff)
	}
}

// What the document says that users see is what the programs say.
func TestOperationsQuotesWhatUsersSee(t *testing.T) {
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "| what is wrong | what users see | what still works | what you do |\n|---|---|---|---|\n")
	table, _, found := strings.Cut(rest, "\n\n")
	if !found {
		t.Fatalf("%s has no table of what users see", operations)
	}
	var source strings.Builder
	for _, pattern := range []string{"../../admission/*.go", "../../admission/server/*.go", "../../policies/decision.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			code, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(code)
		}
	}
	quoted := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, " | ")
		if len(cells) != 4 {
			t.Fatalf("the row %q has not four cells", line)
		}
		for i, part := range strings.Split(cells[1], "`") {
			// What has several words is a sentence; that of the API server is its own.
			if i%2 == 0 || !strings.Contains(part, " ") || strings.HasPrefix(part, "failed calling webhook") {
				continue
			}
			if quoted++; !strings.Contains(source.String(), part) {
				t.Errorf("nothing says %q", part)
			}
		}
	}
	if quoted < 4 {
		t.Errorf("%d sentences are quoted, want four", quoted)
	}
}
