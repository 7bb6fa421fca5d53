package kube_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// grants for payments/api: one secret, one directory, and one unknown provider.
const grants = `
- id: G-1
  owner: team-payments
  expiry: 2126-12-31
  namespaces: [payments]
  serviceAccounts: [api]
  provider: local
  secrets: ["local://node/payments/*"]
- id: G-2
  owner: team-payments
  expiry: 2126-12-31
  namespaces: [payments]
  serviceAccounts: [api]
  provider: acme
  secrets: ["acme://default/payments/*"]
`

// What BuildInput makes of objects is decided by a real engine: the walls hold
// where the two meet.
func TestP3DecisionsAboutEffectiveParameters(t *testing.T) {
	engine := policiestest.Engine(t, grants)
	objects := func(text string) func(*kube.Facts) {
		return ofClass(func(s *spcv1.SecretProviderClassSpec) { s.Parameters["objects"] = text })
	}
	attribute := func(name, value string) func(*kube.Facts) {
		return csi(func(c *corev1.CSIVolumeSource) { c.VolumeAttributes[name] = value })
	}
	provider := func(name string) func(*kube.Facts) {
		return ofClass(func(s *spcv1.SecretProviderClassSpec) { s.Provider = spcProvider(name) })
	}
	parameter := func(name, value string) func(*kube.Facts) {
		return ofClass(func(s *spcv1.SecretProviderClassSpec) { s.Parameters[name] = value })
	}
	for _, test := range []struct {
		name    string
		changes []func(*kube.Facts)
		want    []string // rule ids; none for an allow
	}{
		{"granted", nil, nil},
		{"granted, other file", []func(*kube.Facts){objects("- objectName: payments/x\n  objectAlias: other")}, nil},
		{"another team's secret", []func(*kube.Facts){objects("- objectName: shop/x")}, []string{"PR-001"}},
		{"one of two", []func(*kube.Facts){objects("- objectName: payments/x\n- objectName: shop/x")}, []string{"PR-001"}},
		{"name that looks like a path below", []func(*kube.Facts){objects("- objectName: payments#/x\n  objectAlias: other")}, []string{"PR-001"}},
		{"override to a granted secret", []func(*kube.Facts){attribute("objects", "- objectName: payments/x")}, []string{"PR-010"}},
		{"override with the same value", []func(*kube.Facts){attribute("objects", class().Spec.Parameters["objects"])}, nil},
		{"not readable for certain", []func(*kube.Facts){objects("- objectName: yes")}, []string{"PR-001", "PR-013"}},
		{"climbs out of the granted directory", []func(*kube.Facts){objects("- objectName: payments/../shop/x\n  objectAlias: other")}, []string{"PR-001", "PR-013"}},
		{"setuid", []func(*kube.Facts){objects("- objectName: payments/x\n  filePermission: \"4400\"")}, []string{"PR-100"}},
		{"owner that was not granted", []func(*kube.Facts){objects("- objectName: payments/x\n  ownerUID: 7")}, []string{"PR-101"}},
		{"credential in the class", []func(*kube.Facts){provider("acme"), parameter("token", "x")}, []string{"PR-120"}},
		{"unknown provider", []func(*kube.Facts){provider("acme")}, nil},
		{"unknown provider, unknown parameter", []func(*kube.Facts){provider("acme"), parameter("url", "https://evil.example")}, []string{"PR-001"}},
		{"provider of another spelling", []func(*kube.Facts){provider("Local")}, []string{"PR-001"}},
		{"another service account", []func(*kube.Facts){func(f *kube.Facts) { f.Pod.Spec.ServiceAccountName, f.ServiceAccount.Name = "web", "web" }}, []string{"PR-001"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := engine.Decide(t.Context(), build(t, test.changes...))
			if got := policies.RuleIDs(d.Deny); !subset(test.want, got) || (len(test.want) == 0) != (d.Verdict() == policies.VerdictAllow) {
				t.Errorf("Decide(...) = %v with rules %q, want rules %q", d.Verdict(), got, test.want)
			}
		})
	}
}

// subset reports whether at least one of want fired, or none was wanted.
func subset(want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	for _, id := range want {
		if contains(got, id) {
			return true
		}
	}
	return false
}

// A grant permits the parameters that were decided on, and no others.
func TestP3GrantPermitsOneDigest(t *testing.T) {
	engine := policiestest.Engine(t, grants)
	in, e, err := kube.BuildInput(facts())
	if err != nil {
		t.Fatal(err)
	}
	grant, err := engine.Decide(t.Context(), in).Grant()
	if err != nil {
		t.Fatalf("Grant() = %v, want a grant", err)
	}
	if !grant.Permits(e.Digest()) {
		t.Errorf("Permits(%q) = false, want true for what was decided on", e.Digest())
	}
	for name, change := range map[string]func(*kube.Facts){
		"more objects": ofClass(func(s *spcv1.SecretProviderClassSpec) { s.Parameters["objects"] += "- objectName: payments/x\n" }),
		"white space":  ofClass(func(s *spcv1.SecretProviderClassSpec) { s.Parameters["objects"] += "\n" }),
		"one more":     ofClass(func(s *spcv1.SecretProviderClassSpec) { s.Parameters["x"] = "" }),
		"other class": func(f *kube.Facts) {
			f.Class.Name = "db2"
			f.Pod.Spec.Volumes[0].CSI.VolumeAttributes["secretProviderClass"] = "db2"
		},
		"added attribute": csi(func(c *corev1.CSIVolumeSource) { c.VolumeAttributes["x"] = "y" }),
	} {
		_, other, err := kube.BuildInput(facts(change))
		if err != nil {
			t.Fatal(err)
		}
		if grant.Permits(other.Digest()) {
			t.Errorf("Permits(%s) = true, want false", name)
		}
	}
	if grant.Permits(kube.Effective{}.Digest()) {
		t.Error("Permits(zero Effective) = true, want false")
	}
}

// An author's text must not come back in an error: kubelet copies it into
// events, and terminals obey escape sequences.
func TestErrorsDoNotRepeatValues(t *testing.T) {
	const canary = "Xcanary7\x1b[31m"
	for name, change := range map[string]func(*kube.Facts){
		"provider":     ofClass(func(s *spcv1.SecretProviderClassSpec) { s.Provider = spcProvider(canary) }),
		"class":        csi(func(c *corev1.CSIVolumeSource) { c.VolumeAttributes["secretProviderClass"] = canary }),
		"providerName": csi(func(c *corev1.CSIVolumeSource) { c.VolumeAttributes["providerName"] = canary }),
		"spoofed":      csi(func(c *corev1.CSIVolumeSource) { c.VolumeAttributes["csi.storage.k8s.io/x"] = canary }),
		"not UTF-8":    csi(func(c *corev1.CSIVolumeSource) { c.VolumeAttributes["x"] = canary + "\xff" }),
		"fsType":       csi(func(c *corev1.CSIVolumeSource) { c.FSType = new(canary) }),
		"secretName":   secretObject(canary, "Opaque", "a", "k"),
		"type":         secretObject("s", canary, "a", "k"),
		"key":          secretObject("s", "Opaque", "a", canary),
		"cluster":      func(f *kube.Facts) { f.Cluster = canary },
		"labels":       func(f *kube.Facts) { f.Pod.Labels["x"] = strings.Repeat(canary, 4096) },
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := kube.BuildInput(facts(change))
			if err == nil {
				t.Fatal("BuildInput(...) = nil, want an error")
			}
			if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, "Xcanary7") || strings.Contains(text, "\x1b") {
				t.Errorf("BuildInput(...) = %q, want no value", text)
			}
		})
	}
}

// At the bounds the input is accepted, one byte further it is not.
func TestBounds(t *testing.T) {
	sized := func(n int) map[string]string { return map[string]string{"k": strings.Repeat("x", n-1)} }
	own := func() int {
		n := len("secretProviderClass") + len("db")
		for k, v := range class().Spec.Parameters {
			n += len(k) + len(v)
		}
		return n
	}()
	for _, test := range []struct {
		name  string
		limit int
		set   func(f *kube.Facts, n int)
	}{
		{"namespace labels", 16 << 10, func(f *kube.Facts, n int) { f.Namespace.Labels = sized(n) }},
		{"pod labels", 16 << 10, func(f *kube.Facts, n int) { f.Pod.Labels = sized(n) }},
		{"service account annotations", 16 << 10, func(f *kube.Facts, n int) { f.ServiceAccount.Annotations = sized(n) }},
		{"parameters", 64 << 10, func(f *kube.Facts, n int) {
			f.Class.Spec.Provider = "acme"
			f.Class.Spec.Parameters["k"] = strings.Repeat("x", n-own-1)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			build(t, func(f *kube.Facts) { test.set(f, test.limit) })
			if _, _, err := kube.BuildInput(facts(func(f *kube.Facts) { test.set(f, test.limit+1) })); err == nil {
				t.Errorf("BuildInput(%d bytes) = nil, want an error", test.limit+1)
			}
		})
	}
	list := func(n int) func(*kube.Facts) {
		return ofClass(func(s *spcv1.SecretProviderClassSpec) {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, "- objectName: f%d\n", i)
			}
			s.Parameters["objects"] = b.String()
		})
	}
	if got := len(build(t, list(64)).Requests); got != 64 {
		t.Errorf("requests = %d, want 64", got)
	}
	_, _, err := kube.BuildInput(facts(list(65)))
	if bad, ok := errors.AsType[*kube.FieldError](err); !ok || bad.Field != "spec.parameters" || !strings.Contains(bad.Problem, "more than 64") {
		t.Errorf("BuildInput(65 objects) = %v, want a *FieldError of spec.parameters that says there are too many", err)
	}
}
