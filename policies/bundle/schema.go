package bundle

import (
	"embed"
	"fmt"
	"strings"

	"github.com/portcullis-csi/portcullis/policies"
)

//go:embed schema/*.json
var schemas embed.FS

// SchemaNames returns the names that Schema knows.
func SchemaNames() []string { return []string{"config", "grants", "input", "manifest", "waivers"} }

// Schema returns the JSON Schema of a file of a bundle, or of the input of
// policy. A schema is never stricter than the reader: what it refuses is refused.
func Schema(name string) ([]byte, error) {
	if name == "input" {
		return policies.InputSchema(), nil
	}
	for _, known := range SchemaNames() {
		if name == known {
			return schemas.ReadFile("schema/" + name + ".json")
		}
	}
	return nil, fmt.Errorf("no schema %q; hint: there are %s", clip(name), strings.Join(SchemaNames(), ", "))
}
