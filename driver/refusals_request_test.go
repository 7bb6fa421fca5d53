package driver_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/audit"
)

// Remedies that many rows share.
const (
	throughKubelet = "kubelet sets it; call the driver through kubelet"
	setPodInfo     = "set podInfoOnMount: true in the CSIDriver object"
	inlineVolume   = "use an inline csi volume in the pod; persistent volumes are not supported"
	nameTheClass   = "name the SecretProviderClass in the pod's volume"
	notStaged      = "call the driver through kubelet: volumes of this driver are not staged"
	kubeletRoot    = "give --kubelet-root the directory that kubelet uses (its --root-dir)"
	wrongNode      = "call the driver through kubelet, and check --kubelet-root and --nodeid"
)

type publishRequest = csi.NodePublishVolumeRequest

// request is a row about a field of the request.
func badRequest(covers, field, problem, remedy string) func(name string, change func(*publishRequest)) refusal {
	return func(name string, change func(*publishRequest)) refusal {
		return refusal{
			name: name, covers: covers, field: field, change: change, code: codes.InvalidArgument,
			says: field + " " + problem, remedy: remedy, reason: audit.ReasonInvalidRequest,
		}
	}
}

// requestRefusals are rows about the request itself.
func requestRefusals() []refusal {
	const capability = "volume_capability"
	mount := func(change func(*csi.VolumeCapability_MountVolume)) func(*publishRequest) {
		return func(r *publishRequest) { change(r.GetVolumeCapability().GetMount()) }
	}
	rows := []refusal{
		badRequest("volume_id", "volume_id", "is missing", throughKubelet)("empty", func(r *publishRequest) { r.VolumeId = "" }),
		badRequest("", capability, "is missing", throughKubelet)("nil", func(r *publishRequest) { r.VolumeCapability = nil }),
		badRequest(capability+".block", capability+".mount", "is not set", "mount secrets as files, not as a block device")("block", func(r *publishRequest) {
			r.VolumeCapability.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
		}),
		badRequest("", capability+".mount", "is not set", "mount secrets as files, not as a block device")("no access type", func(r *publishRequest) { r.VolumeCapability.AccessType = nil }),
	}
	fsType := badRequest(capability+".mount.fs_type csi.fsType", "csi.fsType", "is set", "remove it: secrets are always on tmpfs")
	for _, kind := range []string{"ext4", "tmpfs", " ", spill} {
		rows = append(rows, fsType(fmt.Sprintf("%q", kind), mount(func(m *csi.VolumeCapability_MountVolume) { m.FsType = kind })))
	}
	flags := badRequest(capability+".mount.mount_flags", capability+".mount.mount_flags", "are set", "remove the mount options: the driver alone sets them")
	for _, list := range [][]string{{"exec"}, {"ro"}, {"context=system_u:object_r:container_file_t:s0"}, {""}, {"ro", spill}} {
		rows = append(rows, flags(fmt.Sprintf("%q", list), mount(func(m *csi.VolumeCapability_MountVolume) { m.MountFlags = list })))
	}
	group := badRequest(capability+".mount.volume_mount_group", capability+".mount.volume_mount_group", "is not a group id", "set securityContext.fsGroup to a number from 0 to 2147483647")
	for _, gid := range []string{"-1", "2147483648", "4294967295", "9223372036854775808", "0x7d0", "2000 ", "+2000", "02000", "2e3", "\u0662\u0660\u0660\u0660", "staff", strings.Repeat("1", 64<<10)} {
		rows = append(rows, group(fmt.Sprintf("%.20q", gid), mount(func(m *csi.VolumeCapability_MountVolume) { m.VolumeMountGroup = gid })))
	}
	access := badRequest(capability+".access_mode.mode", capability+".access_mode", "is missing, or not for a single node", inlineVolume)
	rows = append(rows, access("nil", func(r *publishRequest) { r.VolumeCapability.AccessMode = nil }))
	for _, m := range []csi.VolumeCapability_AccessMode_Mode{
		csi.VolumeCapability_AccessMode_UNKNOWN, csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY,
		csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER, csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER, 99, -1,
	} {
		rows = append(rows, access(m.String(), func(r *publishRequest) { r.VolumeCapability.AccessMode.Mode = m }))
	}
	rows = append(rows, badRequest("readonly csi.readOnly", "csi.readOnly", "is not true",
		"set readOnly: true in the pod's csi volume: without it containers get the volume writable")("false", func(r *publishRequest) { r.Readonly = false }))
	context := badRequest("publish_context", "publish_context", "is set", "call the driver through kubelet: there is no controller that could have made one")
	for _, m := range []map[string]string{{"a": "b"}, {"": ""}, {"csi.storage.k8s.io/pod.uid": apiUID}} {
		rows = append(rows, context(fmt.Sprint(m), func(r *publishRequest) { r.PublishContext = m }))
	}
	staging := badRequest("staging_target_path", "staging_target_path", "is set", notStaged)
	for _, path := range []string{"/var/lib/kubelet/plugins/kubernetes.io/csi/x/globalmount", "/", " "} {
		rows = append(rows, staging(path, func(r *publishRequest) { r.StagingTargetPath = path }))
	}
	return append(append(rows, targetRefusals()...), secretsRefusals()...)
}

// targetRefusals are paths that are not exactly the place of a pod's volume.
func targetRefusals() []refusal {
	var rows []refusal
	add := func(name string, of refusal, change func(target string) string) {
		of.name, of.covers, of.elsewhere, of.reason = name, "target_path", true, ""
		of.change = func(r *publishRequest) { r.TargetPath = change(r.GetTargetPath()) }
		rows = append(rows, of)
	}
	missing := badRequest("", "target_path", "is missing", throughKubelet)("", nil)
	add("empty", missing, func(string) string { return "" })
	odd := badRequest("", "target_path", "is not a volume of a pod below the kubelet root", kubeletRoot)("", nil)
	for name, change := range map[string]func(target string) string{
		"relative":                 func(target string) string { return target[1:] },
		"elsewhere":                func(string) string { return "/etc" },
		"the root":                 func(string) string { return "/" },
		"another kubelet root":     func(target string) string { return "/var/lib/kubelet/pods/" + strings.SplitN(target, "/pods/", 2)[1] },
		"slash at the end":         func(target string) string { return target + "/" },
		"two slashes":              replacing("/volumes/", "//volumes/"),
		"dot":                      replacing("/volumes/", "/./volumes/"),
		"dots":                     replacing("/pods/", "/pods/../pods/"),
		"dots in place of the UID": replacing(uidOfTarget, ".."),
		"another kind of volume":   replacing("kubernetes.io~csi", "kubernetes.io~secret"),
		"UID in capitals":          replacing(uidOfTarget, strings.ToUpper("33333333-aaaa-4333-8333-000000000000")),
		"UID that is too short":    replacing(uidOfTarget, strings.Repeat("3", 31)),
		"UID of other digits":      replacing(uidOfTarget, strings.Repeat("g", 32)),
		"volume in capitals":       replacing("/secrets/", "/Secrets/"),
		"volume with a dot":        replacing("/secrets/", "/a.b/"),
		"hidden volume":            replacing("/secrets/", "/.secrets/"),
		"long volume":              replacing("/secrets/", "/"+strings.Repeat("s", 64)+"/"),
		"no volume":                replacing("/secrets/", "//"),
		"below the mount":          func(target string) string { return target + "/x" },
		"above the mount":          func(target string) string { return strings.TrimSuffix(target, "/mount") },
		"NUL":                      func(target string) string { return target + "\x00" },
		"NUL inside":               replacing("/secrets/", "/sec\x00rets/"),
		"line feed":                func(target string) string { return target + "\n" },
		"look-alike letter":        replacing("/secrets/", "/s\u0435crets/"),
		"a mebibyte":               func(target string) string { return target + strings.Repeat("/x", 1<<19) },
	} {
		add(name, odd, change)
	}
	static := badRequest("", "target_path", "is a volume of a static pod, which has no identity that the API server vouches for", "run it as a DaemonSet")("", nil)
	add("UID of a static pod's hash", static, replacing(uidOfTarget, "264de746ed05c400fc34aa012602cab6"))
	add("UID without dashes", static, replacing(uidOfTarget, strings.Repeat("3", 32)))
	nowhereMade := badRequest("", "target_path", "has no directory made by kubelet", "call the driver through kubelet, and check --kubelet-root")("", nil)
	add("pod that kubelet does not know", nowhereMade, replacing(uidOfTarget, "44444444-4444-4444-8444-444444444444"))
	add("volume that kubelet does not know", nowhereMade, replacing("/secrets/", "/others/"))
	// A link below the pods directory leads to a place that nobody checked.
	link := refusal{field: "target", code: codes.Unavailable, says: "the target or a directory above it is a link or a file",
		remedy: "find out who writes below the kubelet's pods directory, and delete the pod; it may be a provider (AWS: --driver-writes-secrets=true)"}
	add("link in place of the pod", link, replacing(uidOfTarget, "55555555-5555-4555-8555-555555555555"))
	rows[len(rows)-1].world = func(n *node, p *pod) {
		other := filepath.Join(n.root, "pods", "55555555-5555-4555-8555-555555555555")
		if err := os.Symlink(filepath.Join(n.root, "pods", p.uid), other); err != nil && !os.IsExist(err) {
			n.t.Fatal(err)
		}
	}
	return rows
}

// uidOfTarget stands for the UID in a target path.
const uidOfTarget = "<uid>"

func replacing(from, to string) func(target string) string {
	return func(target string) string {
		if from == uidOfTarget {
			from = strings.SplitN(strings.SplitN(target, "/pods/", 2)[1], "/", 2)[0]
		}
		return strings.Replace(target, from, to, 1)
	}
}

// secretsRefusals are tokens that no kubelet writes.
func secretsRefusals() []refusal {
	tokens := badRequest("secrets", "secrets", "do not hold service account tokens as kubelet writes them", "check tokenRequests in the CSIDriver object")
	token := func(text string) string {
		return fmt.Sprintf(`{"vault":{"token":%s,"expirationTimestamp":"2030-01-01T00:00:00Z"}}`, text)
	}
	var many strings.Builder
	for i := range 33 {
		fmt.Fprintf(&many, `,"a%d":{"token":"%s"}`, i, spill)
	}
	var rows []refusal
	for name, text := range map[string]string{
		"not JSON":             spill,
		"a list":               `["` + spill + `"]`,
		"a string":             `"` + spill + `"`,
		"cut off":              token(`"` + spill + `"`)[:60],
		"two values":           token(`"x"`) + `{"` + spill + `":{}}`,
		"number for a token":   token(`1`),
		"null for a token":     token(`null`),
		"empty token":          token(`""`),
		"token with a blank":   token(`"a ` + spill + `"`),
		"token with escapes":   token(`"\u0073` + spill[1:] + `"`),
		"odd expiry":           `{"vault":{"token":"` + spill + `","expirationTimestamp":"soon"}}`,
		"33 audiences":         "{" + many.String()[1:] + "}",
		"more than 256 KiB":    token(`"` + strings.Repeat("x", 256<<10) + `"`),
		"nested without end":   strings.Repeat(`{"a":`, 20_000),
		"brackets without end": strings.Repeat(`[`, 200_000),
	} {
		rows = append(rows, tokens(name, func(r *publishRequest) {
			r.Secrets = map[string]string{"csi.storage.k8s.io/serviceAccount.tokens": text}
		}))
	}
	return rows
}

// claimRefusals are rows about what kubelet says of the pod.
func claimRefusals() []refusal {
	const prefix = "csi.storage.k8s.io/"
	var rows []refusal
	context := func(key, value string) func(*publishRequest) {
		return func(r *publishRequest) {
			if value == "" {
				delete(r.GetVolumeContext(), key)
				return
			}
			r.VolumeContext[key] = value
		}
	}
	none := badRequest("volume_context", "volume_context", "is missing", setPodInfo)
	rows = append(rows, none("nil", func(r *publishRequest) { r.VolumeContext = nil }))
	noName := []string{"A", "a b", "a/b", "..", "../../x", "a\nb", "\x1b[2J", "p\u0430y", strings.Repeat("n", 254), strings.Repeat("n", 1<<20)}
	for _, key := range []string{"pod.namespace", "pod.name", "pod.uid", "serviceAccount.name"} {
		field := "volume_context[" + prefix + key + "]"
		rows = append(rows, badRequest("volume_context", field, "is missing", setPodInfo)("missing", context(prefix+key, "")))
		if key == "pod.uid" {
			continue
		}
		odd := badRequest("volume_context", field, "is not a name that an object can have", setPodInfo)
		for _, name := range noName {
			rows = append(rows, odd(fmt.Sprintf("%.20q", name), context(prefix+key, name)))
		}
	}
	ephemeral := badRequest("volume_context", "volume_context["+prefix+"ephemeral]", "is not true", inlineVolume)
	for _, value := range []string{"", "false", "True", "true ", "1", "yes"} {
		rows = append(rows, ephemeral(fmt.Sprintf("%q", value), context(prefix+"ephemeral", value)))
	}
	class := func(problem string) func(string, func(*publishRequest)) refusal {
		return badRequest("volume_context", "volumeAttributes.secretProviderClass", problem, nameTheClass)
	}
	rows = append(rows, class("is missing")("missing", context("secretProviderClass", "")))
	for _, name := range noName {
		rows = append(rows, class("is not a name that an object can have")(fmt.Sprintf("%.20q", name), context("secretProviderClass", name)))
	}
	return append(rows, identityRefusals(context)...)
}

// identityRefusals are claims that the cluster does not confirm.
func identityRefusals(context func(key, value string) func(*publishRequest)) []refusal {
	const prefix = "csi.storage.k8s.io/"
	unconfirmed := func(name, field, problem string, change func(*publishRequest)) refusal {
		return refusal{name: name, covers: "volume_context", field: field, change: change, code: codes.PermissionDenied,
			says: "identity not confirmed: " + field + " " + problem, remedy: wrongNode, reason: audit.ReasonIdentityUnconfirmed}
	}
	gone := func(name string, change func(*publishRequest)) refusal {
		return refusal{name: name, covers: "volume_context", field: "pod", change: change, code: codes.NotFound,
			says: "the pod, its namespace or its service account is not in the cluster", remedy: "kubelet retries by itself", reason: audit.ReasonPodNotFound}
	}
	return []refusal{
		unconfirmed("of another pod", "pod UID", "in the volume context is not the one in the target path", context(prefix+"pod.uid", apiUID)),
		unconfirmed("a mebibyte", "pod UID", "in the volume context is not the one in the target path", context(prefix+"pod.uid", strings.Repeat("1", 1<<20))),
		unconfirmed("of another account", "service account", "is not the pod's in the cluster", context(prefix+"serviceAccount.name", "admin")),
		unconfirmed("of another class", "volume attributes", "differ from the pod's in the cluster", context("secretProviderClass", "other")),
		unconfirmed("one more", "volume attributes", "differ from the pod's in the cluster", context("objects", spill)),
		unconfirmed("mock provider that only kubelet's request has", "volume attributes", "differ from the pod's in the cluster", context("providerName", "mock_provider")),
		gone("another name", context(prefix+"pod.name", "gone")),
		gone("another namespace", context(prefix+"pod.namespace", "shop")),
	}
}
