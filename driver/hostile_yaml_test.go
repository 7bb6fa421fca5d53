// The race detector sees no more in dozens of tricks, one after the other, than in
// a few, and takes some twenty times as long.

//go:build !race

package driver_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// yamlTricks are texts of objects that some reader of YAML takes for the two
// granted objects and another for something else, or that are made to exhaust
// one. A provider might fetch what nobody decided on.
func yamlTricks() map[string]string {
	const one = "- objectName: payments/password\n  objectAlias: password\n"
	bomb := "- &a [x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		bomb += "- &" + string(rune('b'+i)) + " [" + strings.TrimSuffix(strings.Repeat("*"+string(rune('a'+i))+", ", 8), ", ") + "]\n"
	}
	return map[string]string{
		"anchor and alias":         "- &x\n  objectName: payments/password\n  objectAlias: password\n- *x\n",
		"aliased name":             "- objectName: &x payments/password\n  objectAlias: password\n- objectName: payments/user\n  objectAlias: *x\n",
		"merge key":                "- &x {objectName: payments/password}\n- <<: *x\n  objectAlias: user\n",
		"merge key that overrides": "- <<: {objectName: payments/root}\n  objectName: payments/password\n  objectAlias: password\n",
		"list of merges":           "- <<: [{objectName: payments/root}, {objectAlias: password}]\n",
		"key twice":                one + "  objectName: payments/root\n",
		"key twice in quotes":      one + "  \"objectName\": payments/root\n",
		"key twice by an escape":   one + "  \"object\\u004eame\": payments/root\n",
		"key in another case":      one + "  objectname: payments/root\n",
		"complex key":              one + "  ? objectName\n  : payments/root\n",
		"yes":                      "- objectName: yes\n",
		"off":                      "- objectName: payments/password\n  objectAlias: off\n",
		"y":                        "- objectName: payments/password\n  objectAlias: y\n",
		"null":                     "- objectName: payments/password\n  objectAlias: ~\n",
		"octal":                    one + "  filePermission: 0440\n",
		"octal of YAML 1.2":        one + "  filePermission: 0o440\n",
		"octal name":               "- objectName: 0777\n",
		"sexagesimal":              "- objectName: 190:20:30\n",
		"sexagesimal owner":        one + "  ownerUID: 1:40\n",
		"binary":                   "- objectName: !!binary cGF5bWVudHMvcm9vdA==\n",
		"tag":                      "- objectName: !!str payments/password\n  objectAlias: password\n",
		"own tag":                  "- !secret\n  objectName: payments/password\n",
		"two documents":            one + "---\n- objectName: payments/root\n",
		"two documents by an end":  one + "...\n- objectName: payments/root\n",
		"directive":                "%YAML 1.1\n---\n" + one,
		"tag directive":            "%TAG ! tag:example.com,2000:\n---\n" + one,
		"tab":                      "- objectName: payments/password\t# \n  objectAlias: password\n",
		"tab for indentation":      "- objectName: payments/password\n\tobjectAlias: password\n",
		"byte order mark":          "\ufeff" + one,
		"byte order mark inside":   one + "\ufeff- objectName: payments/root\n",
		"carriage return alone":    "# \r- objectName: payments/root\n" + one,
		"next line":                "# \u0085- objectName: payments/root\n" + one,
		"line separator":           "# \u2028- objectName: payments/root\n" + one,
		"paragraph separator":      "# \u2029- objectName: payments/root\n" + one,
		"NUL":                      "- objectName: \"payments/password\x00\"\n",
		"text turned around":       "- objectName: \"payments/\u202epassword\"\n",
		"block text":               "- objectName: |-\n    payments/password\n",
		"folded text":              "- objectName: >-\n    payments/\n    password\n",
		"list in a list":           "- - objectName: payments/password\n",
		"map of a list":            "array:\n  - |\n    objectName: payments/root\n",
		"deep flow":                strings.Repeat("[", 30_000),
		"deep maps":                strings.Repeat("{a: ", 10_000),
		"deep blocks":              strings.Repeat("- ", 20_000) + "a",
		"deep indentation":         deepBlock(250),
		"aliases that multiply":    bomb,
		"a thousand keys":          "- " + strings.Repeat("objectName: payments/password\n  ", 1000),
		"a name of 60 KiB":         "- objectName: payments/" + strings.Repeat("x", 60<<10) + "\n",
		"dots":                     "- objectName: payments/../root\n  objectAlias: password\n",
		"file outside":             "- objectName: payments/password\n  objectAlias: ../../password\n",
		"file of kubelet's":        "- objectName: payments/password\n  objectAlias: ..data/password\n",
		"one file for two objects": one + "- objectName: payments/user\n  objectAlias: password\n",
		"file and directory":       one + "- objectName: payments/user\n  objectAlias: password/user\n",
		"nothing":                  "",
		"comments only":            "# - objectName: payments/password\n",
		"null document":            "null\n",
	}
}

func deepBlock(levels int) string {
	var b strings.Builder
	for i := range levels {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// TestP3YAMLTricksAreNeverAGrant: each is refused by policy as what nobody can
// read for certain, although everything below payments/ is granted.
func TestP3YAMLTricksAreNeverAGrant(t *testing.T) {
	n := newNode(t, func(c *setup) { c.grants = strings.ReplaceAll(otherGrants, "payments/*", "*") })
	n.remove(apiPod())
	tricks := yamlTricks()
	for i, name := range slices.Sorted(maps.Keys(tricks)) {
		for j, provider := range []string{"local", "other"} {
			t.Run(name+"/"+provider, func(t *testing.T) {
				p := numbered(2*i + j)
				n.add(p)
				defer n.restore(p)
				classOf(provider, map[string]string{"objects": tricks[name]}, "")(n, &p)
				calls := len(n.provider.Calls())
				err := n.publish(p)
				expectStatus(t, err, codes.PermissionDenied, "denied by policy: PR-013; hint: correct the parameters of the class", "; decision ")
				if got := len(n.provider.Calls()); got != calls {
					t.Error("the provider was asked")
				}
				n.expectNothing(p)
				own := n.podEvents(p, 1)
				if e := own[0]; len(own) != 1 || e.Reason != audit.ReasonPolicyDenied || len(e.Secrets) != 1 || !strings.HasPrefix(e.Secrets[0].ID, "unparsed:") {
					t.Errorf("events = %s about %v, want a denial of the whole parameters", summary(own), e.Secrets)
				}
			})
		}
	}
	n.expectNoPanic()
	// The control: the two objects, read for certain, are granted.
	p := numbered(2 * len(tricks))
	n.add(p)
	n.mustPublish(p)
}

// TestP9YAMLTricksOnRotationTakeNothingAway: a class is edited while its
// volume is mounted. The first denial of a volume takes nothing away.
func TestP9YAMLTricksOnRotationTakeNothingAway(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, protection)
		n.remove(apiPod())
		tricks := yamlTricks()
		for i, name := range slices.Sorted(maps.Keys(tricks)) {
			p := numbered(i)
			n.add(p)
			n.mustPublish(p)
			before, calls := n.look(p), len(n.provider.Calls())
			classOf("local", map[string]string{"objects": tricks[name]}, "")(n, &p)
			n.clock.advance(2 * refreshInterval)
			if err := n.publish(p); err != nil {
				t.Errorf("%s: republish = %v, want nil", name, err)
			}
			if diff := cmp.Diff(before, n.look(p)); diff != "" || len(n.provider.Calls()) != calls {
				t.Errorf("%s: the mounted volume changed, or the provider was asked (-before +after):\n%s", name, diff)
			}
			n.mustUnpublish(p)
			n.restore(p)
		}
	})
}

// TestUnparsedGrantIsForOneTextOnly: what cannot be read can be granted in
// full, and one byte more is another text.
func TestUnparsedGrantIsForOneTextOnly(t *testing.T) {
	n := newNode(t)
	n.remove(apiPod())
	p := numbered(1)
	n.add(p)
	trick := yamlTricks()["octal"]
	classOf("local", map[string]string{"objects": trick}, "")(n, &p)
	expectStatus(t, n.publish(p), codes.PermissionDenied, "PR-013")
	digest := n.podEvents(p, 1)[0].Secrets[0].ID
	n.policy.engine.Store(policiestest.Engine(t, strings.Replace(grants, `"local://node/payments/*"`, `"`+digest+`"`, 1)))
	n.mustPublish(p)
	n.mustUnpublish(p)
	classOf("local", map[string]string{"objects": trick + "#"}, "")(n, &p)
	expectStatus(t, n.publish(p), codes.PermissionDenied, "PR-013")
	n.expectNothing(p)
}
