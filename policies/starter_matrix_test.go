package policies_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/policiestest"
)

// gates are those of a node and those that see no more than API objects.
func gates() (node, early []policies.Phase) {
	return []policies.Phase{policies.PhaseMount, policies.PhaseRotate, policies.PhaseSync},
		[]policies.Phase{policies.PhaseAdmission, policies.PhaseCI}
}

// starterRow is one rule of the starter policy: an input that it refuses, and one
// that comes close and passes.
type starterRow struct {
	id              string
	refused, passes mutate
	// nodeOnly: the facts of the rule exist on the node only, so the other gates
	// let the refused input pass.
	nodeOnly bool
}

func starterRows() []starterRow {
	return slices.Concat(containerRows(), podRows(), classRows(), tokenRows())
}

func containerRows() []starterRow {
	return []starterRow{
		{id: "PR-200", refused: firstContainer(func(c *policies.Container) { c.Privileged = true }),
			passes: firstContainer(func(c *policies.Container) { c.AllowPrivilegeEscalation = true })},
		{id: "PR-203", refused: anotherContainer(func(c *policies.Container) { c.Kind = policies.ContainerEphemeral; c.MountsVolume = false }),
			passes: anotherContainer(func(c *policies.Container) { c.Kind = policies.ContainerInit; c.MountsVolume = false })},
		{id: "PR-204", refused: firstContainer(func(c *policies.Container) { c.Capabilities = []string{"CHOWN", "SYS_ADMIN"} }),
			passes: firstContainer(func(c *policies.Container) { c.Capabilities = []string{"CHOWN", "NET_BIND_SERVICE"} })},
		{id: "PR-207", refused: both(sharedProcesses, anotherContainer(func(*policies.Container) {})), passes: sharedProcesses},
		{id: "PR-230", refused: firstContainer(func(c *policies.Container) { c.Image = "registry.example/payments/api:1.4.2" }),
			passes: firstContainer(func(c *policies.Container) { c.Image = "other@sha256:" + policiestest.Digest })},
	}
}

func podRows() []starterRow {
	return []starterRow{
		{id: "PR-201", refused: func(in *policies.Input) { in.Pod.HostPID = true }, passes: func(in *policies.Input) { in.Pod.HostUsers = false }},
		{id: "PR-202", refused: hostPath("/var/logs"), passes: hostPath("/var/log/pods")},
		{id: "PR-205", refused: hostPath("/var/lib"), passes: hostPath("/var/log")},
		{id: "PR-206", refused: hostPath("/var/log//pods"), passes: hostPath("/var/log/a..b")},
		{id: "PR-210", refused: noGroup, passes: both(noGroup, func(in *policies.Input) { in.Pod.Containers[0].RunAsUser = new(int64(0)) })},
		{id: "PR-211", refused: group(0), passes: group(1)},
		{id: "PR-231", refused: func(in *policies.Input) { in.Subject.ServiceAccount = "default" },
			passes: func(in *policies.Input) { in.Subject.ServiceAccount = "defaults" }},
	}
}

func classRows() []starterRow {
	copyOf := func(name, kind string) mutate {
		return func(in *policies.Input) { in.Requests[0].Sync = []policies.Sync{{Name: name, Type: kind, Key: "k"}} }
	}
	return []starterRow{
		{id: "PR-220", refused: provider("odd"), passes: provider("vault")},
		{id: "PR-221", refused: scoping("vaultSkipTLSVerify", "true"), passes: scoping("vaultSkipTLSVerify", "false")},
		{id: "PR-222", refused: scoping("vaultAddress", "http://vault.example"), passes: scoping("vaultAddress", "https://vault.example")},
		{id: "PR-240", refused: copyOf("db", "kubernetes.io/service-account-token"), passes: copyOf("db", "Opaque")},
		{id: "PR-241", refused: copyOf("other", "Opaque"), passes: copyOf("db", "kubernetes.io/tls")},
	}
}

func tokenRows() []starterRow {
	token := func(verified bool) mutate {
		return func(in *policies.Input) { in.Tokens = []policies.Token{{Audience: "vault", Verified: verified}} }
	}
	return []starterRow{
		{id: "PR-232", nodeOnly: true, refused: func(in *policies.Input) { in.Subject.TokenVerified = new(false) }, passes: token(true)},
		{id: "PR-233", nodeOnly: true, refused: token(false), passes: token(true)},
	}
}

func both(first, second mutate) mutate {
	return func(in *policies.Input) { first(in); second(in) }
}

func firstContainer(change func(*policies.Container)) mutate {
	return func(in *policies.Input) { change(&in.Pod.Containers[0]) }
}

func anotherContainer(change func(*policies.Container)) mutate {
	return func(in *policies.Input) {
		c := in.Pod.Containers[0]
		c.Name = "another"
		change(&c)
		in.Pod.Containers = append(in.Pod.Containers, c)
	}
}

func sharedProcesses(in *policies.Input) { in.Pod.ShareProcessNamespace = true }

func hostPath(path string) mutate {
	return func(in *policies.Input) { in.Pod.HostPaths = []string{path} }
}

func group(gid int64) mutate {
	return func(in *policies.Input) { in.Volume.VolumeMountGroup, in.Pod.FSGroup = new(gid), new(gid) }
}

func provider(name string) mutate {
	return func(in *policies.Input) {
		in.SPC.Provider, in.Requests[0].Secret = name, name+"://node/payments/db-password"
	}
}

func scoping(name, value string) mutate {
	return func(in *policies.Input) { in.SPC.Scoping = map[string]string{name: value} }
}

// strictInput passes every check of the strict starter policy, as the node sees it.
func strictInput(change mutate) policies.Input {
	return policiestest.Input(func(in *policies.Input) {
		in.Subject.TokenVerified = new(true)
		in.Pod.Containers[0].Image = "registry.example/payments/api@sha256:" + policiestest.Digest
	}, change)
}

// seenBy leaves out what a gate does not know.
func seenBy(phase policies.Phase, in policies.Input) policies.Input {
	in.Phase = phase
	if _, early := gates(); slices.Contains(early, phase) {
		in.Subject.PodUID, in.Subject.Node, in.Subject.TokenVerified, in.Tokens = "", "", nil, nil
	}
	if phase == policies.PhaseAdmission {
		in.Requester = &policies.Requester{Username: "system:serviceaccount:kube-system:replicaset-controller"}
	}
	return in
}

// starterGrants cover what the rows ask for, so that only checks refuse.
func starterGrants() string {
	var text strings.Builder
	add := func(provider, scoping string) {
		fmt.Fprintf(&text, "- {id: G-%d, owner: o, expiry: 2126-12-31, namespaces: [payments], serviceAccounts: [api, default, defaults], provider: %s, "+
			"secrets: [%q], scoping: {%s}, syncTargets: [db]}\n", text.Len(), provider, provider+"://node/payments/*", scoping)
	}
	for _, name := range []string{"local", "vault", "odd"} {
		add(name, "")
	}
	for _, scoping := range []string{
		`vaultSkipTLSVerify: "true"`, `vaultSkipTLSVerify: "false"`, "vaultAddress: http://vault.example", "vaultAddress: https://vault.example",
	} {
		add("local", scoping)
	}
	return text.String()
}

// TestP2StarterPolicyAtEveryGate: each rule of the starter policy refuses the
// same facts, and lets the same pass, at every gate, with and without OPA's rule
// index.
func TestP2StarterPolicyAtEveryGate(t *testing.T) {
	e := strictStarter(t)
	node, early := gates()
	rows := starterRows()
	for _, row := range rows {
		t.Run(row.id, func(t *testing.T) {
			for _, phase := range slices.Concat(node, early) {
				want := []string{row.id}
				if row.nodeOnly && slices.Contains(early, phase) {
					want = nil
				}
				decidedAt(t, e, seenBy(phase, strictInput(row.refused)), want)
				decidedAt(t, e, seenBy(phase, strictInput(row.passes)), nil)
			}
		})
	}
	var covered []string
	for _, row := range rows {
		covered = append(covered, row.id)
	}
	slices.Sort(covered)
	if diff := cmp.Diff(starterIDs(t), covered); diff != "" {
		t.Errorf("rows of the matrix differ from the rules of the starter policy (-rules +rows):\n%s", diff)
	}
}

func decidedAt(t *testing.T, e *policies.Engine, in policies.Input, want []string) {
	t.Helper()
	verdict := policies.VerdictAllow
	if len(want) > 0 {
		verdict = policies.VerdictDeny
	}
	for name, engine := range map[string]*policies.Engine{"with": e, "without": e.WithoutIndexing()} {
		if d := engine.Decide(t.Context(), in); d.Verdict() != verdict || !slices.Equal(policies.RuleIDs(d.Deny), want) {
			t.Errorf("Decide() in phase %s, %s rule index = %s (%v), want %s %v", in.Phase, name, summary(d), d.Cause(), verdict, want)
		}
	}
}

// TestP2SignersAreDemandedAtEveryGate: a grant with image signers is not live
// while the input has no evidence of a signature, whichever gate asks. A container
// that does not mount the volume needs none.
func TestP2SignersAreDemandedAtEveryGate(t *testing.T) {
	e := policiestest.Engine(t, policiestest.Grants+"  imageSigners: [\"key:ci\"]\n")
	signed := &policies.Signature{Verified: true, By: []string{"key:ci"}}
	tests := map[string]struct {
		evidence []*policies.Signature // of two containers that mount the volume
		want     []string
	}{
		"none":                {[]*policies.Signature{nil, nil}, []string{"PR-001"}},
		"of one of two":       {[]*policies.Signature{signed, nil}, []string{"PR-001"}},
		"that does not hold":  {[]*policies.Signature{signed, {By: []string{"key:ci"}}}, []string{"PR-001"}},
		"by nobody":           {[]*policies.Signature{signed, {Verified: true}}, []string{"PR-001"}},
		"by somebody else":    {[]*policies.Signature{signed, {Verified: true, By: []string{"key:other"}}}, []string{"PR-001"}},
		"of both that matter": {[]*policies.Signature{signed, signed}, nil},
	}
	node, early := gates()
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, phase := range slices.Concat(node, early) {
				in := policiestest.Input(
					anotherContainer(func(*policies.Container) {}),
					func(in *policies.Input) {
						for i := range in.Pod.Containers {
							in.Pod.Containers[i].Signature = tt.evidence[i]
						}
					},
					anotherContainer(func(c *policies.Container) { c.MountsVolume, c.Signature = false, nil }),
				)
				decidedAt(t, e, seenBy(phase, in), tt.want)
			}
		})
	}
}
