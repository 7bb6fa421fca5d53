package check_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies/check"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// head is a check up to its rules.
const head = `# METADATA
# title: Sample
# description: A sample.
# schemas:
#   - input: schema.input
# labels:
#   owner: tests
package portcullis.checks.sample

`

// denying returns a check whose one deny rule has these conditions, with helpers
// above it.
func denying(helpers, body string) string {
	return head + helpers + `
# METADATA
# title: Rule
deny contains finding if {
	` + strings.ReplaceAll(body, "\n", "\n\t") + `
	finding := {"id": "PR-300", "severity": "low", "message": "m", "remediation": "r"}
}
`
}

// ids returns the ids of findings, each once, without those of format and tests.
func ids(r check.Report) []string {
	var all []string
	seen := map[string]bool{}
	for _, f := range r.Findings {
		if f.ID != check.IDFormat && f.ID != check.IDUntested && !seen[f.ID] {
			seen[f.ID] = true
			all = append(all, f.ID)
		}
	}
	return all
}

func lint(t *testing.T, name, text string, want ...string) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		r := run(t, policiestest.Files(policiestest.Grants, policiestest.WithCheck("sample", text)), quick)
		if diff := cmp.Diff(want, ids(r)); diff != "" {
			t.Errorf("Run() differs (-want +got):\n%s\n%s\n%s", diff, text, findings(r))
		}
	})
}

// TestP2AbsenceIsAnError: what would deny for want of a fact that a gate never has
// is not loaded. The rest says nothing there.
func TestP2AbsenceIsAnError(t *testing.T) {
	for body, want := range map[string][]string{
		"not input.subject.tokenVerified":                                         {"bundle"},
		"not input.subject[\"tokenVerified\"]":                                    {"bundle"},
		"not input.subject.tokenVerified == true":                                 {"bundle"},
		"not startswith(input.subject.node, \"trusted-\")":                        nil,
		"not input.tokens[0].verified":                                            {"bundle"},
		"subject := input.subject\nnot subject.tokenVerified":                     {"bundle"},
		"input.subject.tokenVerified == false":                                    nil,
		"startswith(input.subject.node, \"n\")\nnot input.subject.node == \"n1\"": nil,
		"not input.pod.owner":                                                     nil,
		"some token in input.tokens\nnot token.verified":                          nil,
		"not input.pod.hostPID":                                                   nil,
	} {
		lint(t, body, denying("", body), want...)
	}
	lint(t, "through a helper that is a name", denying("_token := input.subject.tokenVerified\n", "not _token"), "bundle")
	lint(t, "in a warning", strings.Replace(denying("", "not input.subject.tokenVerified"), "deny contains", "warn contains", 1))
}

// TestNotEqualLint: != over what may be absent.
func TestNotEqualLint(t *testing.T) {
	for body, want := range map[string][]string{
		"input.pod.fsGroup != 1":                                                {"optional-not"},
		"1 != input.pod.fsGroup":                                                {"optional-not"},
		"input.pod[\"fsGroup\"] != 1":                                           {"optional-not"},
		"group := input.pod.fsGroup\ngroup != 1":                                {"optional-not"},
		"pod := input.pod\ngroup := pod.fsGroup\ngroup != 1":                    {"optional-not"},
		"some c in input.pod.containers\nc.runAsUser != 0":                      {"optional-not"},
		"some i\ninput.pod.containers[i].runAsUser != 0":                        {"optional-not"},
		"input.pod.containers[_].runAsUser != 0":                                {"optional-not"},
		"input.volume.volumeMountGroup != input.pod.fsGroup":                    {"optional-not"},
		"input.subject.namespaceLabels[\"tier\"] != \"prod\"":                   {"optional-not"},
		"input.pod.fsGroup > 0\ninput.pod.fsGroup != 1":                         nil,
		"object.get(input.pod, \"fsGroup\", 0) != 1":                            nil,
		"object.get(input, [\"pod\", \"fsGroup\"], 0) != 1":                     {"bundle"},
		"not input.pod.fsGroup == 1":                                            nil,
		"input.spc.provider != \"vault\"":                                       nil,
		"count([c | some c in input.pod.containers; c.runAsUser != 0]) > 0":     nil,
		"some c in input.pod.containers\nc.runAsUser >= 0\nc.runAsUser != 1000": nil,
	} {
		lint(t, body, denying("", body), want...)
	}
	lint(t, "helper", denying("_other if input.pod.fsGroup != 1\n", "_other"))
	lint(t, "another container", denying("", "some c in input.pod.containers\nsome d in input.pod.containers\nd.runAsUser > 5\nc.name != d.name"))
}

// TestTextLint: a finding that an absent field silences.
func TestTextLint(t *testing.T) {
	with := func(body, message string) string {
		return strings.Replace(denying("", body), `"message": "m"`, `"message": `+message, 1)
	}
	lint(t, "direct", with("input.pod.hostPID", `sprintf("%v", [input.pod.fsGroup])`), "optional-text")
	lint(t, "through a variable", with("input.pod.hostPID\ngroup := input.pod.fsGroup", `sprintf("%v", [group])`), "optional-text")
	lint(t, "through two", with("input.pod.hostPID\npod := input.pod\ngroup := pod.fsGroup", `sprintf("%v", [group])`), "optional-text")
	lint(t, "of a container", with("some c in input.pod.containers", `sprintf("%v", [c.runAsUser])`), "optional-text")
	lint(t, "shown", with("input.pod.fsGroup > 0", `sprintf("%v", [input.pod.fsGroup])`))
	lint(t, "with a default", with("input.pod.hostPID", `sprintf("%v", [object.get(input.pod, "fsGroup", "none")])`))
	lint(t, "in a comprehension", with("input.pod.hostPID", `concat(",", [f | f := sprintf("%v", [input.pod.fsGroup])])`))
	lint(t, "what is always there", with("input.pod.hostPID", `sprintf("%v", [input.spc.provider])`))
	lint(t, "the secret of a finding", strings.Replace(with("some request in input.requests", `"m"`), `"message":`, `"secret": request.secret, "message":`, 1))
}

// TestDutyLint: an obligation that an absent field drops.
func TestDutyLint(t *testing.T) {
	with := func(value, condition string) string {
		return head + "# METADATA\n# title: Duty\nobligations := " + value + condition + "\n"
	}
	lint(t, "direct", with(`{"required_fs_group": input.pod.fsGroup}`, ""), "optional-duty")
	lint(t, "through a variable", with(`{"required_fs_group": group}`, " if group := input.pod.fsGroup"), "optional-duty")
	lint(t, "constant", with(`{"ttl_seconds": 60}`, ""))
	lint(t, "conditional", with(`{"ttl_seconds": 60}`, " if input.pod.hostPID"))
	lint(t, "without a title", head+"obligations := {\"ttl_seconds\": 60}\n", "metadata")
}

// TestScanLints: reading all grants, matching their patterns, building what is
// constant, and objects that are made for each key.
func TestScanLints(t *testing.T) {
	for body, want := range map[string][]string{
		"some key, _ in data.portcullis.grants.by_subject\nkey == \"a/b\"":                                          {"grant-scan"},
		"count(data.portcullis.waivers.by_finding) > 0":                                                             {"grant-scan"},
		"data.portcullis.grants.by_subject[_]":                                                                      {"grant-scan"},
		"some who\ndata.portcullis.grants.by_subject[who]":                                                          {"grant-scan"},
		"all := data.portcullis.grants\nall.by_subject[\"a/b\"]":                                                    {"grant-scan"},
		"object.keys(data.portcullis.grants.by_subject) == {\"a\"}":                                                 {"grant-scan"},
		"data.portcullis.grants.by_subject[\"a/b\"]":                                                                nil,
		"who := input.subject.namespace\ndata.portcullis.grants.by_subject[who]":                                    nil,
		"some who in {\"a\", \"b\"}\ndata.portcullis.grants.by_subject[who]":                                        nil,
		"object.get(data.portcullis.grants.by_subject, \"a/b\", {}) == {}":                                          nil,
		"not object.get(data.portcullis.grants.by_subject, \"a/b\", {}) == {}":                                      nil,
		"some records in data.portcullis.grants.by_subject[\"a/b\"]\nsome record in records\nrecord.owner == \"x\"": nil,
		"some g in data.portcullis.grants.by_subject[\"a/b\"][_]\nglob.match(g.owner, [\"/\"], \"x\")":              {"grant-pattern"},
		"some g in data.portcullis.grants.by_subject[\"a/b\"][_]\nregex.match(g.owner, \"x\")":                      {"grant-pattern"},
		"regex.match(\"^a\", input.subject.namespace)":                                                              nil,
		"glob.match(data.portcullis.config.checks.sample.pattern, [], input.subject.namespace)":                     nil,
		"{t.name: t | some t in data.portcullis.config.checks.sample.teams}[\"a\"]":                                 {"index"},
		"{t.name: t | some t in data.portcullis.config.checks.sample.teams; t.name == input.subject.namespace}":     nil,
		"{c.name: c | some c in input.pod.containers}[\"a\"]":                                                       nil,
	} {
		lint(t, body, denying("", body), want...)
	}
	object := "_sizes[request.file] := count(request.secret) if some request in input.requests\n"
	lint(t, "looked up", denying(object, "_sizes[input.spc.name] > 4"), "computed-key")
	lint(t, "looked up by a constant", denying(object, `_sizes["a"] > 4`))
	lint(t, "read as a whole", denying(object, "count(_sizes) > 4"))
	lint(t, "argument", denying("_of(key) := data.portcullis.grants.by_subject[key]\n", "_of(\"a/b\")"))
}

// TestEveryLint: every over what may be empty, in helpers.
func TestEveryLint(t *testing.T) {
	for body, want := range map[string][]string{
		"every r in input.requests { r.mode == 256 }":                                       {"every"},
		"every t in input.tokens { t.verified }":                                            {"every", "bundle"},
		"every c in [x | some x in input.pod.containers; x.privileged] { c.name == \"a\" }": {"every"},
		"mine := {x | some x in input.pod.containers}\nevery c in mine { c.name == \"a\" }": {"every"},
		"every c in input.pod.containers { not c.privileged }":                              nil,
		"count(input.requests) > 0\nevery r in input.requests { r.mode == 256 }":            nil,
		"some _ in input.requests\nevery r in input.requests { r.mode == 256 }":             nil,
		"every w in [\"a\", \"b\"] { w != input.subject.namespace }":                        nil,
		"count(input.pod.containers) > 0\nevery r in input.requests { r.mode == 256 }":      {"every"},
	} {
		lint(t, body, denying("_fine if {\n\t"+strings.ReplaceAll(body, "\n", "\n\t")+"\n}\n", "not _fine"), want...)
	}
	lint(t, "in a deny rule it errs on the safe side", denying("", "every r in input.requests { r.mode == 256 }"))
}

// TestTitles: a rule has a title of its own, or one for all that bear its name.
func TestTitles(t *testing.T) {
	two := func(above string) string {
		rule := "deny contains {\"id\": \"PR-300\", \"severity\": \"low\", \"message\": \"m\", \"remediation\": \"r\"} if input.pod."
		return head + above + rule + "hostPID\n\n" + rule + "hostIPC\n"
	}
	lint(t, "for all", two("# METADATA\n# scope: document\n# title: Host\n"))
	lint(t, "for the first", two("# METADATA\n# title: Host\n"), "metadata")
	lint(t, "none", two(""), "metadata")
	lint(t, "for all, and empty", two("# METADATA\n# scope: document\n# description: Host\n"), "metadata")
	lint(t, "helpers need none", denying("_x := 1\n", "_x == 1"))
	lint(t, "an owner of the package", strings.Replace(two("# METADATA\n# scope: document\n# title: Host\n"), "# labels:\n#   owner: tests\n", "", 1), "metadata")
}

// TestFindingLints: ids are constants of bundles, and no field is unknown or missing.
func TestFindingLints(t *testing.T) {
	const finding = `{"id": "PR-300", "severity": "low", "message": "m", "remediation": "r"}`
	with := func(changed string) string {
		return strings.Replace(denying("", "input.pod.hostPID"), finding, changed, 1)
	}
	for changed, want := range map[string][]string{
		finding: nil,
		`{"id": "PR-200", "severity": "info", "message": "m", "remediation": "r"}`:                                       nil,
		`{"id": "PR-999", "severity": "critical", "message": "m", "remediation": "r", "secret": "s", "waivable": false}`: nil,
		`{"id": "PR-199", "severity": "low", "message": "m", "remediation": "r"}`:                                        {"finding-id"},
		`{"id": "PR-1000", "severity": "low", "message": "m", "remediation": "r"}`:                                       {"finding-id"},
		`{"id": "pr-300", "severity": "low", "message": "m", "remediation": "r"}`:                                        {"finding-id"},
		`{"id": sprintf("PR-%d", [300]), "severity": "low", "message": "m", "remediation": "r"}`:                         {"finding-id"},
		`{"id": "PR-300", "severity": "Low", "message": "m", "remediation": "r"}`:                                        {"finding-fields"},
		`{"id": "PR-300", "severity": "moderate", "message": "m", "remediation": "r"}`:                                   {"finding-fields"},
		`{"id": "PR-300", "message": "m", "remediation": "r"}`:                                                           {"finding-fields"},
		`{"id": "PR-300", "severity": "low", "remediation": "r"}`:                                                        {"finding-fields"},
		`{"id": "PR-300", "severity": "low", "message": "m", "remedy": "r"}`:                                             {"remediation", "finding-fields"},
		`{"id": "PR-300", "severity": "low", "message": "m"}`:                                                            {"remediation"},
		`{"id": "PR-300", "severity": "low", "message": "m", "remediation": "r", "check": "sample", "waived": true}`:     {"finding-fields"},
		`object.union({"id": "PR-100", "severity": "low"}, {"message": "m", "remediation": "r"})`:                        {"finding-id"},
	} {
		lint(t, changed, with(changed), want...)
	}
}
