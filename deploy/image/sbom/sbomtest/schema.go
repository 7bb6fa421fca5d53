package sbomtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Validate fails the test unless the document is valid CycloneDX 1.6.
func Validate(t testing.TB, data []byte) {
	t.Helper()
	if err := Check(data); err != nil {
		t.Errorf("document is not valid CycloneDX: %v", err)
	}
}

// Check returns what is wrong with the document.
func Check(data []byte) error {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		return fmt.Errorf("find the schema: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	// Their $id is on the network; where they refer to each other, they do by name.
	const base = "http://cyclonedx.org/schema/"
	for name, file := range map[string]string{
		"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json", "jsf-0.82.schema.json": "jsf-0.82.schemax.json",
	} {
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "schema", file))
		if err != nil {
			return err
		}
		schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return err
		}
		if err := compiler.AddResource(base+name, schema); err != nil {
			return err
		}
	}
	schema, err := compiler.Compile(base + "bom-1.6.schema.json")
	if err != nil {
		return fmt.Errorf("compile the schema: %w", err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return schema.Validate(document)
}

// Module is a linked module: its path, version and h1 sum.
type Module struct{ Path, Version, Sum string }

// Modules returns the Go modules of a document, sorted as they are there.
func Modules(t testing.TB, data []byte) map[Module]bool {
	t.Helper()
	var d struct {
		Components []struct {
			Type, Name, Version string
			Properties          []struct{ Name, Value string }
		}
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	found := map[Module]bool{}
	for _, c := range d.Components {
		if c.Type != "library" {
			continue
		}
		m := Module{Path: c.Name, Version: c.Version}
		for _, p := range c.Properties {
			if p.Name == "go.sum" {
				m.Sum = p.Value
			}
		}
		found[m] = true
	}
	return found
}

// GoVersion returns the same from the output of "go version -m".
func GoVersion(t testing.TB, output []byte) map[Module]bool {
	t.Helper()
	found := map[Module]bool{}
	last := Module{}
	for line := range strings.Lines(string(output)) {
		fields := strings.Fields(line)
		switch {
		case !strings.HasPrefix(line, "\t") && len(fields) >= 2:
			found[Module{Path: "std", Version: strings.TrimPrefix(fields[1], "go")}] = true
		case len(fields) >= 3 && fields[0] == "dep":
			last = Module{fields[1], fields[2], strings.Join(fields[3:], "")}
			found[last] = true
		case len(fields) >= 3 && fields[0] == "=>":
			delete(found, last)
			found[Module{fields[1], fields[2], strings.Join(fields[3:], "")}] = true
		}
	}
	if len(found) < 2 {
		t.Fatalf("go version -m shows no module:\n%s", output)
	}
	return found
}
