package main_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	node "github.com/portcullis-csi/portcullis/cmd/portcullis-node"
)

var update = flag.Bool("update", false, "rewrite the table of flags in docs/OPERATIONS.md")

const (
	operations = "../../docs/OPERATIONS.md"
	tableBegin = "<!-- flags:portcullis-node:begin -->\n"
	tableEnd   = "<!-- flags:portcullis-node:end -->"
)

// flagTable is what the document says of the flags: that of a release build,
// with the development flags in rows of their own.
func flagTable() string {
	var b strings.Builder
	b.WriteString("| flag | default | meaning |\n|---|---|---|\n")
	node.Flags().VisitAll(func(f *pflag.Flag) {
		def := f.DefValue
		if def == "" || def == "[]" {
			def = "-"
		}
		fmt.Fprintf(&b, "| `--%s` | `%s` | %s |\n", f.Name, strings.Trim(def, "[]"), strings.ReplaceAll(f.Usage, "|", `\|`))
	})
	return b.String()
}

func TestOperationsDocumentsEveryFlag(t *testing.T) {
	if node.InsecureBuild {
		t.Skip("the document has the flags of a release build, which the untagged tests compare")
	}
	if err := os.Unsetenv("NODE_NAME"); err != nil {
		t.Fatal(err)
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
