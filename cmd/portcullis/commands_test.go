package main_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	portcullis "github.com/portcullis-csi/portcullis/cmd/portcullis"
)

var update = flag.Bool("update", false, "rewrite the tables of commands in the documents")

// TestDocumentsListEveryCommand: the tables of the documents are made from the
// commands themselves.
func TestDocumentsListEveryCommand(t *testing.T) {
	policy, others := []*cobra.Command{}, []*cobra.Command{}
	for _, c := range commands(portcullis.Command()) {
		if strings.HasPrefix(c.CommandPath(), "portcullis policy ") {
			policy = append(policy, c)
		} else {
			others = append(others, c)
		}
	}
	if len(policy) < 9 || len(others) < 9 {
		t.Fatalf("found %d and %d commands, want at least 9 of each: the search is broken", len(policy), len(others))
	}
	compareBlock(t, "../../docs/POLICIES.md", "commands", commandTables(t, policy))
	compareBlock(t, "../../docs/OPERATIONS.md", "commands", commandTables(t, others))
}

// TestEveryCommandHasAnExample: help is worth reading.
func TestEveryCommandHasAnExample(t *testing.T) {
	for _, c := range commands(portcullis.Command()) {
		if c.CommandPath() != "portcullis demo" && !regexp.MustCompile(`(?m)^  .*\b`+c.CommandPath()+`\b`).MatchString(c.Long) {
			t.Errorf("%s --help shows no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Long) {
			if len(line) > 90 {
				t.Errorf("%s --help has a line of %d characters, want at most 90: %s", c.CommandPath(), len(line), line)
			}
		}
	}
}

// commands are those that do something, in the order of help.
func commands(c *cobra.Command) []*cobra.Command {
	if !c.HasSubCommands() {
		return []*cobra.Command{c}
	}
	var all []*cobra.Command
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			all = append(all, commands(sub)...)
		}
	}
	return all
}

func commandTables(t *testing.T, all []*cobra.Command) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| command | does | 0 | 1 | 3 |\n|---|---|---|---|---|\n")
	for _, c := range all {
		codes := exitCodes(t, c)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", usage(c), cell(c.Short), codes["0"], codes["1"], codes["3"])
	}
	b.WriteString("\n| flag | of | default | meaning |\n|---|---|---|---|\n")
	for _, f := range flagsOf(all) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", f.name, strings.Join(f.commands, ", "), f.value, f.usage)
	}
	return b.String()
}

// usage is how a command is called, without what all have in common.
func usage(c *cobra.Command) string {
	return cell(strings.TrimSuffix(strings.TrimPrefix(c.UseLine(), "portcullis "), " [flags]"))
}

// exitCodes are what help says of them, by code.
func exitCodes(t *testing.T, c *cobra.Command) map[string]string {
	t.Helper()
	_, text, found := strings.Cut(c.Long, "\nExit code ")
	if !found {
		t.Errorf("%s --help does not say its exit codes", c.CommandPath())
	}
	codes := map[string]string{}
	for _, m := range regexp.MustCompile(`(\d): ([^:]*)\.`).FindAllStringSubmatch(strings.Join(strings.Fields(text), " "), -1) {
		codes[m[1]] = cell(m[2])
	}
	if codes["0"] == "" {
		t.Errorf("%s --help says of its exit codes %q, want them as in 0: done. 1: failed.", c.CommandPath(), text)
	}
	return codes
}

// flagRow is one flag, of all commands where it is the same.
type flagRow struct {
	name, value, usage string
	commands           []string
}

func flagsOf(all []*cobra.Command) []*flagRow {
	var rows []*flagRow
	known := map[string]*flagRow{}
	for _, c := range all {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" {
				return
			}
			r := &flagRow{name: "`--" + f.Name + "`", value: "-", usage: cell(f.Usage)}
			if f.Shorthand != "" {
				r.name = "`-" + f.Shorthand + "`, " + r.name
			}
			if v := strings.Trim(f.DefValue, "[]"); v != "" && v != "false" && v != "0" {
				r.value = "`" + v + "`"
			}
			key := r.name + r.value + r.usage
			if known[key] == nil {
				known[key] = r
				rows = append(rows, r)
			}
			known[key].commands = append(known[key].commands, "`"+c.Name()+"`")
		})
	}
	return rows
}

// cell is text for a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// compareBlock compares a generated block of a document, or writes it.
func compareBlock(t *testing.T, document, name, want string) {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->"
	head, rest, ok := strings.Cut(string(text), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no block %s", document, name)
	}
	if *update {
		if err := os.WriteFile(document, []byte(head+begin+want+end+tail), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s, block %s is not current; go test ./cmd/portcullis -run Document -update rewrites it (-want +have):\n%s", document, name, diff)
	}
}
