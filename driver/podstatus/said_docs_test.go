package podstatus_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/driver/podstatus"
)

var update = flag.Bool("update", false, "rewrite the generated part of the documents")

func TestOperationsDocumentsEveryPodEvent(t *testing.T) {
	want := "| reason | type | component | text |\n|---|---|---|---|\n"
	for kind := podstatus.Rotated; ; kind++ {
		ev := podstatus.Event{Kind: kind, Volume: "VOLUME", Reason: "Reason"}
		reason, severity, component, message, known := podstatus.Said(ev)
		if !known {
			break
		}
		want += fmt.Sprintf("| `%s` | %s | `%s` | %s |\n", reason, severity, component, strings.ReplaceAll(message, `"VOLUME"`, "`VOLUME`"))
	}
	path := filepath.Join("..", "..", "docs", "OPERATIONS.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- podevents:begin -->\n", "<!-- podevents:end -->"
	before, rest, ok := strings.Cut(string(text), begin)
	have, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatal("docs/OPERATIONS.md has no block of pod events")
	}
	if have == want {
		return
	}
	if !*update {
		t.Fatalf("the table of pod events is not current; go test ./driver/podstatus -run PodEvent -update rewrites it\nhave:\n%s\nwant:\n%s", have, want)
	}
	if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o600); err != nil {
		t.Fatal(err)
	}
}
