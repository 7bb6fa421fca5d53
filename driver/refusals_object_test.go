package driver_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/audit"
)

// badObject is a row about a field of the pod or of the class.
func badObject(covers, field, problem, remedy string) func(name string, world func(*node, *pod)) refusal {
	return func(name string, world func(*node, *pod)) refusal {
		return refusal{
			name: name, covers: covers, field: field, world: world, code: codes.InvalidArgument,
			says: field + " " + problem, remedy: remedy, reason: audit.ReasonInvalidClass,
		}
	}
}

// authored gives the pod's volume one more attribute: its author's.
func authored(key, value string) func(*node, *pod) {
	return attributesOf(map[string]string{key: value})
}

func attributesOf(extra map[string]string) func(*node, *pod) {
	return func(n *node, p *pod) {
		p.attributes = maps.Clone(p.attributes)
		maps.Copy(p.attributes, extra)
		n.add(*p)
	}
}

// attributeRefusals are rows about what the pod's author wrote.
func attributeRefusals() []refusal {
	const (
		covers = "volume_context csi.volumeAttributes"
		prefix = "csi.storage.k8s.io/"
	)
	var rows []refusal
	mock := badObject(covers, `csi.volumeAttributes["providerName"]`, "is not accepted", "remove it: the SecretProviderClass names the provider")
	for _, provider := range []string{"mock_provider", "local", "", spill} {
		rows = append(rows, mock(provider, authored("providerName", provider)))
	}
	for _, key := range []string{
		prefix + "serviceAccount.tokens", prefix + "pod.name", prefix + "pod.namespace", prefix + "pod.uid", prefix + "serviceAccount.name",
		prefix + "ephemeral", prefix + "later", prefix, "CSI.storage.k8s.io/pod.uid", "csi.STORAGE.k8s.io/serviceAccount.tokens",
	} {
		field := fmt.Sprintf("csi.volumeAttributes[%q]", key)
		spoof := badObject(covers, field, "begins with csi.storage.k8s.io/, which only kubelet may use", "remove it")(key, authored(key, spill))
		// Kubelet's own value goes over the author's where it sets one, as
		// node.request does; the pod's spec still has the author's.
		rows = append(rows, spoof)
	}
	for _, key := range []string{"", " ", "a b", "\x1b[31mred", "-x", "p\u0430th", "a\x00", strings.Repeat("n", 254)} {
		shown := key
		if len(shown) > 64 {
			shown = shown[:64] + "..."
		}
		field := fmt.Sprintf("csi.volumeAttributes[%+q]", shown)
		rows = append(rows, badObject(covers, field, "is not a parameter name", "use letters, digits, -, _, . and /")(fmt.Sprintf("%.20q", key), authored(key, "x")))
	}
	size := badObject(covers, "spec.parameters", "is larger than 64 KiB", "make it smaller, or split the object")
	rows = append(rows, size("attributes that make it larger", authored("objects", strings.Repeat("#", 64<<10))))
	many := map[string]string{}
	for i := range 65 {
		many[fmt.Sprintf("p%d", i)] = "x"
	}
	return append(rows, badObject(covers, "volume.overrides", "are more than 64", "move the volumeAttributes into the SecretProviderClass")("65", attributesOf(many)))
}

// manifest changes the text of the pod's object, as the cluster has it.
func manifest(from, to string) func(*node, *pod) {
	return func(n *node, p *pod) {
		text := p.manifest()
		if !strings.Contains(text, from) {
			n.t.Fatalf("%q is not in the pod's manifest", from)
		}
		n.write("pod-"+p.uid+".yaml", strings.Replace(text, from, to, 1))
	}
}

// podRefusals are rows about the pod as the cluster has it.
func podRefusals() []refusal {
	volumeField := `spec.volumes["secrets"]`
	unconfirmed := func(name, field, problem string, world func(*node, *pod)) refusal {
		return refusal{name: name, covers: "csi.driver", field: field, world: world, code: codes.PermissionDenied,
			says: "identity not confirmed: " + field + " " + problem, remedy: wrongNode, reason: audit.ReasonIdentityUnconfirmed}
	}
	group := badObject("volume_capability.mount.volume_mount_group", "volume_mount_group", "is not the pod's securityContext.fsGroup",
		"call the driver through a kubelet that knows the capability VOLUME_MOUNT_GROUP")
	size := func(field string) func(string, func(*node, *pod)) refusal {
		return badObject("", field, "is larger than 16 KiB", "make it smaller, or split the object")
	}
	label := func(bytes int) string { return "{k: " + strings.Repeat("x", bytes-1) + "}" }
	return []refusal{
		badObject("csi.readOnly", volumeField+".csi.readOnly", "is not true", "set readOnly: true")("false", manifest("readOnly: true", "readOnly: false")),
		badObject("csi.readOnly", volumeField+".csi.readOnly", "is not true", "set readOnly: true")("not set", manifest("readOnly: true, ", "")),
		badObject("csi.fsType", volumeField+".csi.fsType", "is set", "remove it: secrets are always on tmpfs")("ext4", manifest("readOnly: true", "fsType: ext4, readOnly: true")),
		group("of another group", manifest("fsGroup: 2000", "fsGroup: 2001")),
		group("of no group", manifest("{fsGroup: 2000}", "{}")),
		group("of root's", manifest("fsGroup: 2000", "fsGroup: 0")),
		unconfirmed("another driver's", "volume", "of this name in the pod does not belong to this driver", manifest("driver: "+driverName, "driver: other.example")),
		unconfirmed("not a CSI volume", "volume", "of this name in the pod does not belong to this driver", func(n *node, p *pod) {
			head, _, _ := strings.Cut(p.manifest(), "      csi:")
			n.write("pod-"+p.uid+".yaml", head+"      emptyDir: {}\n")
		}),
		unconfirmed("not in the pod", "volume", "of this name is not in the pod", manifest("- name: secrets", "- name: others")),
		unconfirmed("of another UID", "pod UID", "is not that of the pod of this name in the cluster", manifest("uid: 3", "uid: 4")),
		unconfirmed("on another node", "node", "of the pod is not this node", manifest("nodeName: node-1", "nodeName: node-2")),
		unconfirmed("that has ended", "pod", "has already ended", func(n *node, p *pod) { n.write("pod-"+p.uid+".yaml", p.manifest()+"status: {phase: Succeeded}\n") }),
		unconfirmed("that has failed", "pod", "has already ended", func(n *node, p *pod) { n.write("pod-"+p.uid+".yaml", p.manifest()+"status: {phase: Failed}\n") }),
		size("metadata.labels of the pod")("one byte too many", func(n *node, p *pod) {
			manifest("namespace: payments,", "namespace: payments, labels: "+label(16<<10+1)+",")(n, p)
		}),
		size("metadata.labels of the namespace")("one byte too many", func(n *node, _ *pod) {
			n.write("objects.yaml", strings.Replace(objects, "{name: payments}", "{name: payments, labels: "+label(16<<10+1)+"}", 1))
		}),
		size("metadata.annotations of the service account")("one byte too many", func(n *node, _ *pod) {
			n.write("objects.yaml", strings.Replace(objects, "name: api, namespace: payments}", "name: api, namespace: payments, annotations: "+label(16<<10+1)+"}", 1))
		}),
		badObject("", "(all)", "is larger than 128 KiB", "shorten labels, annotations or the SecretProviderClass")("pod of 2000 containers", func(n *node, p *pod) {
			var list strings.Builder
			for i := range 2000 {
				fmt.Fprintf(&list, "{name: c%d, image: registry.example/main:1}, ", i)
			}
			manifest("{name: main, image: registry.example/main:1}", list.String()+"{name: main, image: registry.example/main:1}")(n, p)
		}),
	}
}

// class replaces class db. Parameters are JSON, so that every text can stand
// in them.
func classOf(provider string, parameters map[string]string, more string) func(*node, *pod) {
	return func(n *node, _ *pod) {
		head, _, _ := strings.Cut(objects, "  provider: local")
		name, _ := json.Marshal(provider)
		text, _ := json.Marshal(parameters)
		// To YAML these two are more than characters of a text.
		text = []byte(strings.NewReplacer("\u0085", `\u0085`, "\ufeff", `\ufeff`).Replace(string(text)))
		n.write("objects.yaml", fmt.Sprintf("%s  provider: %s\n  parameters: %s\n%s", head, name, text, more))
	}
}

const plainObjects = "- objectName: payments/password\n  objectAlias: password\n- objectName: payments/user\n  objectAlias: user\n"

// listed asks for so many objects, each a file of its own.
func listed(many int) map[string]string {
	var list strings.Builder
	for i := range many {
		fmt.Fprintf(&list, "- objectName: payments/f%d\n", i)
	}
	return map[string]string{"objects": list.String()}
}

// classRefusals are rows about the SecretProviderClass.
func classRefusals() []refusal {
	decent := map[string]string{"objects": plainObjects}
	rows := []refusal{{
		name: "deleted", covers: "volume_context", field: "secretproviderclass", code: codes.NotFound, reason: audit.ReasonClassNotFound,
		says:   `failed to get secretproviderclass payments/db, error: secretproviderclass "db" not found`,
		remedy: "create the SecretProviderClass in the pod's namespace",
		world: func(n *node, _ *pod) {
			n.write("objects.yaml", strings.Split(objects, "---\napiVersion: secrets-store")[0])
		},
	}, {
		name: "of another namespace", covers: "volume_context", field: "secretproviderclass", code: codes.NotFound, reason: audit.ReasonClassNotFound,
		says:   `failed to get secretproviderclass payments/db, error: secretproviderclass "db" not found`,
		remedy: "create the SecretProviderClass in the pod's namespace",
		world: func(n *node, _ *pod) {
			n.write("objects.yaml", strings.Replace(objects, "{name: db, namespace: payments}", "{name: db, namespace: shop}", 1))
		},
	}}
	provider := badObject("spec.provider", "spec.provider", "of the SecretProviderClass is not a provider name", "use 1 to 30 letters, digits, _ or -")
	for _, name := range []string{"", " ", "../local", "/local", "lo cal", "local\n", "l\u043ecal", ".", "a.b", strings.Repeat("p", 31), strings.Repeat("p", 64<<10)} {
		rows = append(rows, provider(fmt.Sprintf("%.20q", name), classOf(name, decent, "")))
	}
	empty := badObject("spec.parameters", "spec.parameters", "of the SecretProviderClass is empty", "list the secrets there")
	rows = append(rows, empty("nil", classOf("local", nil, "")), empty("empty", classOf("local", map[string]string{}, "")))
	rows = append(rows, badObject("spec.parameters", "spec.parameters", "lists more than 64 secrets", "split the SecretProviderClass")("65", classOf("local", listed(65), "")))
	size := badObject("spec.parameters", "spec.parameters", "is larger than 64 KiB", "make it smaller, or split the object")
	rows = append(rows, size("one byte too many", classOf("acme", parametersOf(64<<10+1), "")))
	for _, key := range []string{"", "a b", "a\x1b[2Jb"} {
		rows = append(rows, badObject("spec.parameters", fmt.Sprintf("spec.parameters[%+q]", key), "is not a parameter name", "use letters, digits, -, _, . and /")(
			fmt.Sprintf("%q", key), classOf("acme", map[string]string{"objects": plainObjects, key: "x"}, "")))
	}
	const kubelets = "csi.storage.k8s.io/serviceAccount.tokens"
	rows = append(rows, badObject("spec.parameters", fmt.Sprintf("spec.parameters[%q]", kubelets), "begins with csi.storage.k8s.io/, which only kubelet may use", "remove it")(
		"tokens", classOf("acme", map[string]string{"objects": plainObjects, kubelets: `{"vault":{"token":"` + spill + `"}}`}, "")))
	return append(rows, secretObjectRefusals(decent)...)
}

// parametersOf are parameters of so many bytes in all, as they are counted:
// with those of the pod's volume.
func parametersOf(bytes int) map[string]string {
	left := bytes - len("objects") - len(plainObjects) - len("note") - len("secretProviderClass") - len("db")
	return map[string]string{"objects": plainObjects, "note": strings.Repeat("x", left)}
}

// secretObjectRefusals are rows about copies in Secret objects.
func secretObjectRefusals(decent map[string]string) []refusal {
	synced := func(objects string) func(*node, *pod) {
		return classOf("local", decent, "  secretObjects: "+objects+"\n")
	}
	one := func(name, kind, key string) string {
		return fmt.Sprintf(`[{secretName: %q, type: %q, labels: {a: b}, annotations: {a: b}, data: [{objectName: password, key: %q}]}]`, name, kind, key)
	}
	const covers = "spec.secretObjects spec.secretObjects.labels spec.secretObjects.annotations "
	var rows []refusal
	for _, name := range []string{"", "Not A Name", "../x", strings.Repeat("s", 254)} {
		rows = append(rows, badObject(covers+"spec.secretObjects.secretName", "spec.secretObjects[0].secretName", "is not a name of a Secret", "use lower case letters, digits, - and .")(
			fmt.Sprintf("%.20q", name), synced(one(name, "Opaque", "k"))))
	}
	for _, kind := range []string{"a b", "x\n", strings.Repeat("t", 254)} {
		rows = append(rows, badObject(covers+"spec.secretObjects.type", "spec.secretObjects[0].type", "is not a type of Secret", "use Opaque or kubernetes.io/tls, for example")(
			fmt.Sprintf("%.20q", kind), synced(one("s", kind, "k"))))
	}
	for _, key := range []string{"", "a/b", "..", strings.Repeat("k", 254)} {
		rows = append(rows, badObject(covers+"spec.secretObjects.data", "spec.secretObjects[0].data", "has a key that no Secret can have", "use letters, digits, -, _ and .")(
			fmt.Sprintf("%.20q", key), synced(one("s", "Opaque", key))))
	}
	copies := func(many int) string {
		var list []string
		for i := range many {
			list = append(list, fmt.Sprintf("{objectName: password, key: k%d}", i))
		}
		return "[{secretName: s, type: Opaque, data: [" + strings.Join(list, ", ") + "]}]"
	}
	return append(rows, badObject(covers+"spec.secretObjects.data", "spec.secretObjects", "copy one file more than 64 times", "split the SecretProviderClass")("65 copies", synced(copies(65))))
}

// policyRefusals are rows about what policy decides, and what no policy can
// allow. Their hints are the rules' own.
func policyRefusals() []refusal {
	denied := func(name, covers, rule, remedy string, world func(*node, *pod)) refusal {
		return refusal{name: name, covers: covers, field: rule, world: world, code: codes.PermissionDenied,
			says: "denied by policy: " + rule, remedy: remedy, reason: audit.ReasonPolicyDenied}
	}
	with := func(key, value string) func(*node, *pod) {
		return classOf("acme", map[string]string{"objects": plainObjects, key: value}, "")
	}
	const credential = "remove the parameter, replace the credential, and let the provider use the pod's service account or nodePublishSecretRef"
	rows := []refusal{
		denied("objects of the pod's own", "csi.volumeAttributes", "PR-010", "remove objects from volumeAttributes and set it in the SecretProviderClass",
			authored("objects", plainObjects+"# and no more\n")),
	}
	for key, value := range map[string]string{
		"password": spill, "clientSecret": spill, "vaultToken": spill, "private_key": spill, "url": "https://u:" + spill + "@vault.example",
		"cert": "-----BEGIN PRIVATE KEY-----\n" + spill,
	} {
		rows = append(rows, denied(key, "spec.parameters", "PR-001, PR-120", credential, with(key, value)))
	}

	return rows
}
