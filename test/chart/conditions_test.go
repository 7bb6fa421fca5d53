package chart_test

import (
	"bytes"
	"encoding/json"
	stdflag "flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
)

var update = stdflag.Bool("update", false, "rewrite doctor/conditions.json")

// doctor says of a cluster whether its conditions are these, word for word: one that
// keeps its name and is never true would have nobody asked.
func TestDoctorKnowsTheConditionsOfTheChart(t *testing.T) {
	const file = repository + "/doctor/conditions.json"
	conditions := map[string][]admissionv1.MatchCondition{}
	for name, w := range install(t, newest(), "webhook: {enabled: true}").webhooks(t) {
		short, _, _ := strings.Cut(name, ".")
		for _, c := range w.MatchConditions {
			c.Expression = strings.ReplaceAll(c.Expression, "'secrets-store.csi.k8s.io'", "'DRIVER'")
			conditions[short] = append(conditions[short], c)
		}
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(conditions); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(text.String(), read(t, file)); diff != "" || len(conditions) != 3 {
		t.Errorf("conditions of %d webhooks; (cd test/chart && go test . -run Doctor -update) rewrites the file (-chart +doctor):\n%s", len(conditions), diff)
	}
}
