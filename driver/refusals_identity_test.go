package driver_test

import (
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/audit"
)

// world is what several changes make of the cluster.
func world(changes ...func(*node, *pod)) func(*node, *pod) {
	return func(n *node, p *pod) {
		for _, change := range changes {
			change(n, p)
		}
	}
}

// withDriverObject puts a CSIDriver object into the cluster.
func withDriverObject(spec string) func(*node, *pod) {
	return func(n *node, _ *pod) { n.write("objects.yaml", objects+driverObject(spec)) }
}

// bearing hands over a token with other claims than the pod's.
func bearing(change func(bound map[string]any)) func(*node, *pod) {
	return func(n *node, p *pod) {
		p.tokens = n.issuer.of(*p, "aws")
		p.tokens["vault"] = n.issuer.token(*p, "vault", change)
	}
}

// tokenRefusals are rows about service account tokens, and pods that can have
// none.
func tokenRefusals() []refusal {
	const spoofed = `csi.volumeAttributes["` + tokensKey + `"]`
	unconfirmed := func(name, field string, change func(bound map[string]any)) refusal {
		return refusal{name: name, covers: "secrets", field: field, world: bearing(change), code: codes.PermissionDenied,
			says:   "identity not confirmed: " + field + " in a service account token of the request is not the pod's",
			remedy: wrongNode, reason: audit.ReasonIdentityUnconfirmed}
	}
	ref := func(name, uid string) map[string]any { return map[string]any{"name": name, "uid": uid} }
	bind := func(name string, value any) func(map[string]any) {
		return func(bound map[string]any) { bound[name] = value }
	}
	rows := []refusal{
		unconfirmed("of another namespace", "namespace", bind("namespace", "kube-system")),
		unconfirmed("of another pod", "pod", bind("pod", ref("other", apiUID))),
		unconfirmed("of an earlier pod", "pod UID", func(b map[string]any) {
			name, _ := b["pod"].(map[string]any)["name"].(string) //nolint:forcetypeassert // made by token
			b["pod"] = ref(name, apiUID)
		}),
		unconfirmed("of another account", "service account", bind("serviceaccount", ref("admin", accountUID))),
		unconfirmed("of an earlier account", "service account UID", bind("serviceaccount", ref("api", apiUID))),
		unconfirmed("of another node", "node", bind("node", ref("node-2", apiUID))),
	}
	inContext := func(text string) func(*publishRequest) {
		return func(r *publishRequest) { r.VolumeContext[tokensKey] = text }
	}
	author := badObject("volume_context", spoofed, "begins with csi.storage.k8s.io/, which only kubelet may use", "remove it")
	for name, w := range map[string]func(*node, *pod){
		"tokens in the context, which nobody asked for":        withDriverObject("{podInfoOnMount: true}"),
		"tokens in the context, while kubelet's are elsewhere": withDriverObject(tokensInSecrets),
		"tokens in the context, beside kubelet's":              world(withDriverObject(tokensInContext), func(n *node, p *pod) { p.tokens = n.issuer.of(*p, "vault") }),
	} {
		row := author(name, w)
		row.change = inContext(`{"vault":{"token":"` + spill + `"}}`)
		rows = append(rows, row)
	}
	odd := badRequest("volume_context", "volume_context["+tokensKey+"]", "does not hold service account tokens as kubelet writes them", "check tokenRequests in the CSIDriver object")(
		"kubelet's, and not JSON", inContext(spill))
	odd.world = withDriverObject(tokensInContext)
	mirror := badObject("", `metadata.annotations["kubernetes.io/config.mirror"]`, "marks a static pod, which has no identity that the API server vouches for",
		"run it as a DaemonSet, or remove the annotation")
	for _, value := range []string{"264de746ed05c400fc34aa012602cab6", `""`} {
		rows = append(rows, mirror(value, manifest("namespace: payments,", "namespace: payments, annotations: {kubernetes.io/config.mirror: "+value+"},")))
	}
	deleted := refusal{name: "being deleted", field: "pod", code: codes.PermissionDenied, says: "identity not confirmed: pod is being deleted, and gets no new volume",
		remedy: "none is needed: the pod is on its way out", reason: audit.ReasonIdentityUnconfirmed, elsewhere: true, world: beingDeleted}
	return append(rows, odd, deleted)
}

func beingDeleted(n *node, p *pod) {
	n.write("pod-"+p.uid+".yaml", strings.Replace(p.manifest(), "namespace: payments,", `namespace: payments, deletionTimestamp: "2026-01-01T00:00:00Z",`, 1))
}

// driverObjectRefusals are rows about the CSIDriver object.
func driverObjectRefusals() []refusal {
	unfit := func(name, field, problem, remedy, object string) refusal {
		return refusal{name: name, field: field, code: codes.Unavailable, says: field + " of the CSIDriver object " + problem,
			remedy: remedy + "; the platform team owns it", reason: audit.ReasonDriverObjectUnfit,
			world: func(n *node, _ *pod) { n.write("objects.yaml", objects+object) }}
	}
	podInfo := func(name, spec string) refusal {
		return unfit(name, "spec.podInfoOnMount", "is not true: authors of pods could say who they are", "set podInfoOnMount: true", driverObject(spec))
	}
	return []refusal{
		podInfo("false", "{podInfoOnMount: false}"),
		podInfo("not set", "{attachRequired: false}"),
		unfit("another driver's", "metadata.name", "is not the name of this driver", "start the plugin with the driver name of the CSIDriver object (--drivername)",
			strings.Replace(driverObject("{podInfoOnMount: true}"), driverName, "other.example", 1)),
	}
}
