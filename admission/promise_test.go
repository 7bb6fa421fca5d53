package admission_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
	"github.com/portcullis-csi/portcullis/policies/rego"
)

// one picks one of several, so that most pods are nearly right.
func one[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

// generated are facts of a pod that anybody could write.
func generated(r *rand.Rand) kube.Facts {
	const digested = "registry.example/api@sha256:" + policiestest.Digest
	p := pod(func(p *corev1.Pod) {
		p.Spec.HostPID, p.Spec.HostNetwork = r.IntN(16) == 0, r.IntN(16) == 0
		p.Spec.ServiceAccountName = one(r, "api", "api", "api", "api", "job", "default")
		p.Spec.SecurityContext.FSGroup = one(r, new(int64(2000)), new(int64(2000)), new(int64(2000)), new(int64(0)), nil)
		p.Spec.Containers[0].Image = one(r, digested, digested, digested, "registry.example/api:1")
		p.Spec.Containers[0].SecurityContext = one(r, nil, nil, nil, nil, nil, nil, &corev1.SecurityContext{Privileged: new(true)}, &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SYS_ADMIN"}}})
		p.Spec.Volumes[0].CSI.ReadOnly = one(r, new(true), new(true), new(true), new(true), new(true), new(false))
		p.Labels["app"] = one(r, "api", "other")
		if r.IntN(6) == 0 {
			p.Spec.Volumes[0].CSI.VolumeAttributes[one(r, "objects", "password")] = "- objectName: payments/x\n"
		}
		if r.IntN(8) == 0 {
			addDebug(p)
		}
		if r.IntN(6) == 0 {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: one(r, "/", "/var/lib/kubelet", "/srv")}}})
		}
	})
	c := class("db", func(c *spcv1.SecretProviderClass) {
		c.Spec.Provider = spcv1.Provider(one(r, "local", "local", "local", "acme"))
		c.Spec.Parameters["objects"] = fmt.Sprintf("- objectName: %s\n", one(r, "payments/db-password", "payments/db", "payments/key", "shop/key", "{"))
		if r.IntN(8) == 0 {
			c.Spec.Parameters["password"] = canary
		}
	})
	ns := namespace()
	ns.Labels["team"] = one(r, "red", "blue")
	return kube.Facts{
		Now: time.Unix(0, policiestest.Now), Cluster: "test", DriverName: driverName, Pod: p, Namespace: ns, Class: c, VolumeName: "secrets",
		ServiceAccount: &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: p.Spec.ServiceAccountName, Namespace: "payments"}},
	}
}

func atAdmission(f kube.Facts) kube.Facts {
	f.Phase = policies.PhaseAdmission
	f.Requester = &policies.Requester{Username: "alice", Groups: []string{"system:masters"}}
	return f
}

func atMount(f kube.Facts, verified bool) kube.Facts {
	f.Phase, f.Node, f.TokenVerified = policies.PhaseMount, "node-1", &verified
	f.Tokens = []policies.Token{{Audience: "vault", Verified: verified}}
	if sc := f.Pod.Spec.SecurityContext; sc != nil {
		f.VolumeMountGroup = sc.FSGroup // as kubelet sends it
	}
	return f
}

// common is an input without what one of the gates lacks.
func common(in policies.Input) policies.Input {
	in.Phase, in.Requester, in.Tokens, in.Subject.Node, in.Subject.TokenVerified = policies.PhaseCI, nil, nil, "", nil
	return in
}

// starter are the checks of the library.
func starter(t testing.TB) (options []policiestest.Option) {
	t.Helper()
	files, err := rego.Starter()
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.LoadFS(files)
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range b.Modules {
		options = append(options, policiestest.WithFile(path, text))
	}
	return options
}

func promiseEngines(t *testing.T) map[string]*policies.Engine {
	t.Helper()
	engines := map[string]*policies.Engine{}
	const grants = `
- {id: G-1, owner: o, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [api], provider: local, secrets: ["local://node/payments/*"]}
- {id: G-2, owner: o, expiry: 2126-12-31, namespaceSelector: {team: red}, serviceAccounts: ["*"], provider: local, secrets: ["local://node/shop/*"], pods: {imageRepositories: [registry.example/api]}}
- {id: G-3, owner: o, expiry: 2026-01-14, namespaces: [payments], serviceAccounts: [job], provider: local, secrets: ["local://node/payments/*"]}
`
	const waivers = `- {id: W-1, finding: PR-010, namespace: payments, serviceAccount: "*", reason: r, ticket: T-1, approvedBy: a, expiry: 2026-02-01}`
	const known = "checks: {provider: {allowed: [local]}}\n"
	for name, config := range map[string]string{
		"enforce": "namespace_label_keys: [team]\n", "monitor": "namespace_label_keys: [team]\nmonitor: {until: 2026-02-01, rules: [\"*\"]}\n",
		"some monitored": "namespace_label_keys: [team]\nmonitor: {until: 2026-02-01, rules: [PR-001, PR-010]}\n",
	} {
		options := append(starter(t), policiestest.WithConfig(known+config))
		if name == "enforce" {
			options = append(options, policiestest.WithWaivers(waivers))
		}
		engines[name] = policiestest.Engine(t, grants, options...)
	}
	return engines
}
