package chart_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

const mebibyte = 1 << 20

// flag returns the value of a flag of the plugin, or fails.
func flag(t *testing.T, c corev1.Container, name string) string {
	t.Helper()
	for _, arg := range c.Args {
		if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			return value
		}
	}
	t.Fatalf("the plugin is not given --%s: %q", name, c.Args)
	return ""
}

// A limit below what the volumes may fill would have the kernel kill the plugin,
// and again its successor, since the pages stay.
func TestMemoryLimitHoldsTheBudget(t *testing.T) {
	cases := []struct {
		name, values string
		node, limit  int64 // mebibytes
	}{
		{"default", "", 128, 128 + 256},
		{"larger budget", "maxNodeBytes: 1Gi", 1024, 1024 + 256},
		{"number", "maxNodeBytes: 536870912", 512, 512 + 256},
		{"smaller budget", "maxNodeBytes: 16Mi", 16, 16 + 256},
		{"limit at the edge", "linux: {driver: {resources: {limits: {memory: 384Mi}}}}", 128, 384},
		{"limit above", "maxNodeBytes: 64Mi\nlinux: {driver: {resources: {limits: {memory: 1Gi}}}}", 64, 1024},
		{"limit without a unit", "linux: {driver: {resources: {limits: {memory: 402653184}}}}", 128, 384},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			plugin := install(t, newest(), c.values).plugin(t)
			if got, want := flag(t, plugin, "max-node-bytes"), fmt.Sprint(c.node*mebibyte); got != want {
				t.Errorf("--max-node-bytes=%s, want %s", got, want)
			}
			limit := plugin.Resources.Limits.Memory().Value()
			if limit != c.limit*mebibyte {
				t.Errorf("memory limit %d, want %d", limit, c.limit*mebibyte)
			}
			if limit < (c.node+256)*mebibyte {
				t.Errorf("memory limit %d is below the budget and 256 MiB", limit)
			}
			if request := plugin.Resources.Requests.Memory().Value(); request > limit || request <= 0 {
				t.Errorf("memory request %d does not fit below the limit %d", request, limit)
			}
			if cpu, ok := plugin.Resources.Limits[corev1.ResourceCPU]; ok {
				t.Errorf("CPU limit %s by default: a plugin that is held up holds up pods", cpu.String())
			}
		})
	}
	for name, values := range map[string]string{
		"below the default's": "linux: {driver: {resources: {limits: {memory: 383Mi}}}}",
		"upstream's default":  "linux: {driver: {resources: {limits: {cpu: 200m, memory: 200Mi}}}}",
		"budget was raised":   "maxNodeBytes: 512Mi\nlinux: {driver: {resources: {limits: {memory: 512Mi}}}}",
	} {
		got := refusal(t, valuesOf(t, "clusterName: test\n"+values))
		if !strings.Contains(got, "linux.driver.resources.limits.memory") || !strings.Contains(got, "maxNodeBytes + 256Mi") || !strings.Contains(got, "hint:") {
			t.Errorf("a limit %s: %q, want a refusal that names the value, the bound and the remedy", name, got)
		}
	}
}

// The Go runtime must give memory back before the kernel takes it.
func TestGoMemoryLimitLeavesRoomForVolumes(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		plugin := r.plugin(t)
		i := slices.IndexFunc(plugin.Env, func(e corev1.EnvVar) bool { return e.Name == "GOMEMLIMIT" })
		if i < 0 {
			t.Fatal("no GOMEMLIMIT")
		}
		var heap, volumes int64
		if _, err := fmt.Sscan(plugin.Env[i].Value+" "+flag(t, plugin, "max-node-bytes"), &heap, &volumes); err != nil {
			t.Fatal(err)
		}
		if limit := plugin.Resources.Limits.Memory().Value(); heap < 64*mebibyte || heap+volumes > limit {
			t.Errorf("GOMEMLIMIT %d and volumes of %d do not fit into %d", heap, volumes, limit)
		}
	})
}

func TestNoWorkloadIsOnTheHostsNetworkOrAmongItsProcesses(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		for name, spec := range r.podSpecs(t) {
			if spec.HostNetwork || spec.HostPID || spec.HostIPC || spec.ShareProcessNamespace != nil && *spec.ShareProcessNamespace {
				t.Errorf("%s shares a namespace of the host", name)
			}
			for _, c := range spec.Containers {
				for _, port := range c.Ports {
					if port.HostPort != 0 {
						t.Errorf("%s: port %d is open on the node", name, port.HostPort)
					}
				}
			}
			if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
				t.Errorf("%s: the environment names every Service of the namespace", name)
			}
			if p := spec.SecurityContext; p == nil || p.SeccompProfile == nil || p.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("%s has no seccomp profile", name)
			}
		}
	})
}

// hostMount is how a directory of the node is seen in a container.
type hostMount struct {
	Path        string // on the node
	At          string // in the container
	ReadOnly    bool
	Propagation corev1.MountPropagationMode
	Type        corev1.HostPathType
}

func hostMounts(t *testing.T, spec corev1.PodSpec) []hostMount {
	t.Helper()
	var found []hostMount
	for _, volume := range spec.Volumes {
		if volume.HostPath == nil {
			continue
		}
		mounted := 0
		for _, m := range spec.Containers[0].VolumeMounts {
			if m.Name != volume.Name {
				continue
			}
			mounted++
			h := hostMount{Path: volume.HostPath.Path, At: m.MountPath, ReadOnly: m.ReadOnly}
			if m.MountPropagation != nil {
				h.Propagation = *m.MountPropagation
			}
			if volume.HostPath.Type != nil {
				h.Type = *volume.HostPath.Type
			}
			if m.SubPath != "" || m.SubPathExpr != "" {
				t.Errorf("%s is mounted by a subPath", volume.Name)
			}
			found = append(found, h)
		}
		if mounted == 0 {
			t.Errorf("the volume %s with %s is mounted nowhere", volume.Name, volume.HostPath.Path)
		}
	}
	slices.SortFunc(found, func(a, b hostMount) int { return strings.Compare(a.Path, b.Path) })
	return found
}

func TestPluginSeesOnlyTheseDirectoriesOfTheNode(t *testing.T) {
	const made, there = corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory
	want := func(kubelet, state string, providers ...string) []hostMount {
		mounts := []hostMount{
			{kubelet + "/plugins/csi-secrets-store", "/csi", false, "", made},
			{kubelet + "/plugins_registry", "/registration", false, "", there},
			{kubelet + "/pods", kubelet + "/pods", false, corev1.MountPropagationBidirectional, there},
			{state, state, false, "", made},
			{"/proc", "/host/proc", true, "", there},
		}
		for _, dir := range providers {
			mounts = append(mounts, hostMount{dir, dir, true, corev1.MountPropagationHostToContainer, made})
		}
		slices.SortFunc(mounts, func(a, b hostMount) int { return strings.Compare(a.Path, b.Path) })
		return mounts
	}
	upstreams := []string{"/var/run/secrets-store-csi-providers", "/etc/kubernetes/secrets-store-csi-providers"}
	ofValues := map[string][]hostMount{
		"everything-on":  want("/mnt/kubelet", "/srv/portcullis", "/run/providers", "/run/more-providers", "/run/other-providers"),
		"everything-off": want("/var/lib/kubelet", "/var/lib/portcullis", upstreams[0]),
	}
	forEach(t, func(t *testing.T, r release) {
		expected, ok := ofValues[r.name]
		if !ok {
			expected = want("/var/lib/kubelet", "/var/lib/portcullis", upstreams...)
		}
		spec := r.daemonSet(t).Spec.Template.Spec
		if diff := cmp.Diff(expected, hostMounts(t, spec)); diff != "" {
			t.Errorf("directories of the node (-documented +rendered):\n%s", diff)
		}
		// What the plugin is told must be what it sees.
		plugin := spec.Containers[0]
		at := map[string]string{}
		for _, m := range expected {
			at[m.At] = m.Path
		}
		dirs := append(strings.Split(flag(t, plugin, "additional-provider-volume-paths"), ","),
			flag(t, plugin, "provider-volume"), flag(t, plugin, "state-dir"), flag(t, plugin, "kubelet-root")+"/pods", flag(t, plugin, "host-proc"), flag(t, plugin, "plugin-registration-dir"))
		for _, dir := range dirs {
			if _, ok := at[dir]; !ok && dir != "" {
				t.Errorf("the plugin is told of %q, which is not mounted there", dir)
			}
		}
		socket := strings.TrimPrefix(flag(t, plugin, "endpoint"), "unix:///csi/")
		if got, want := flag(t, plugin, "kubelet-registration-path"), at["/csi"]+"/"+socket; got != want {
			t.Errorf("--kubelet-registration-path=%s, want %s: the socket as kubelet sees it", got, want)
		}
	})
}

// Nothing but the plugin and, where it runs, the local provider sees the node.
func TestOtherWorkloadsSeeNoMoreOfTheNode(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		for name, spec := range r.podSpecs(t) {
			plugin := strings.HasSuffix(name, "DaemonSet csi-secrets-store")
			provider := strings.HasSuffix(name, "DaemonSet portcullis-provider-local")
			for _, m := range hostMounts(t, spec) {
				sockets := flag(t, r.plugin(t), "provider-volume")
				if !plugin && (!provider || m.Path != sockets && !strings.Contains(m.Path, "local")) {
					t.Errorf("%s sees %s of the node", name, m.Path)
				}
				if !plugin && m.Propagation == corev1.MountPropagationBidirectional {
					t.Errorf("%s mounts on the node", name)
				}
			}
			for _, c := range spec.Containers {
				s := c.SecurityContext
				if s == nil {
					t.Fatalf("%s has no security context", name)
				}
				if privileged := s.Privileged != nil && *s.Privileged; privileged != plugin {
					t.Errorf("%s: privileged is %v; only the plugin is, for its mounts", name, privileged)
				}
				if s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
					t.Errorf("%s writes its own image", name)
				}
				if !plugin && (s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation) {
					t.Errorf("%s may gain privileges", name)
				}
				if s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
					t.Errorf("%s does not drop all capabilities first", name)
				}
				if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Memory().IsZero() {
					t.Errorf("%s has no memory limit or request", name)
				}
			}
		}
	})
}

func TestPluginHasTheseCapabilities(t *testing.T) {
	for values, want := range map[string][]corev1.Capability{
		"":                        {"CHOWN", "IPC_LOCK", "SETUID", "SYS_ADMIN"},
		"providerUIDs: [1000, 7]": {"CHOWN", "DAC_OVERRIDE", "IPC_LOCK", "SETUID", "SYS_ADMIN"},
	} {
		if got := install(t, newest(), values).plugin(t).SecurityContext.Capabilities.Add; !slices.Equal(got, want) {
			t.Errorf("capabilities with %q are %q, want %q", values, got, want)
		}
	}
}

func TestImagesComeFromValues(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	appVersion := regexp.MustCompile(`(?m)^appVersion: "?([^"\n]+)"?$`).FindStringSubmatch(read(t, chartDir+"/Chart.yaml"))
	if appVersion == nil {
		t.Fatal("Chart.yaml has no appVersion")
	}
	cases := []struct{ values, suffix string }{
		{"{}", ":" + appVersion[1]},
		{"{tag: v9}", ":v9"},
		{"{digest: " + digest + "}", "@" + digest},
		{"{tag: v9, digest: " + digest + "}", "@" + digest},
	}
	for _, c := range cases {
		image := strings.Replace(c.values, "{", "{repository: registry.example.org/own, pullPolicy: Always, ", 1)
		r := install(t, newest(), "linux: {image: "+image+"}\nlocalProvider: {enabled: true, image: "+image+"}")
		for name, spec := range r.podSpecs(t) {
			for _, container := range append(spec.Containers, spec.InitContainers...) {
				if want := "registry.example.org/own" + c.suffix; container.Image != want {
					t.Errorf("%s has the image %s with %s, want %s", name, container.Image, c.values, want)
				}
				if container.ImagePullPolicy != corev1.PullAlways {
					t.Errorf("%s is pulled %s, want Always", name, container.ImagePullPolicy)
				}
			}
		}
	}
}

func TestUpdatesAndPlacement(t *testing.T) {
	rolling := install(t, newest(), "").daemonSet(t)
	if s := rolling.Spec.UpdateStrategy; s.Type != "RollingUpdate" || s.RollingUpdate == nil || s.RollingUpdate.MaxUnavailable.String() != "10%" {
		t.Errorf("update strategy %+v, want RollingUpdate by 10%%", s)
	}
	canary := install(t, newest(), "linux: {updateStrategy: {type: OnDelete}}").daemonSet(t)
	if s := canary.Spec.UpdateStrategy; s.Type != "OnDelete" || s.RollingUpdate != nil {
		t.Errorf("update strategy %+v, want OnDelete and nothing else: the API server refuses both", s)
	}
	spec := rolling.Spec.Template.Spec
	if !slices.ContainsFunc(spec.Tolerations, func(x corev1.Toleration) bool {
		return x.Operator == corev1.TolerationOpExists && x.Key == "" && x.Effect == ""
	}) {
		t.Errorf("tolerations %+v leave out nodes whose pods may have volumes", spec.Tolerations)
	}
	if spec.PriorityClassName != "system-node-critical" {
		t.Errorf("priority class %q, want system-node-critical", spec.PriorityClassName)
	}
	if spec.NodeSelector[corev1.LabelOSStable] != "linux" {
		t.Errorf("node selector %v takes nodes that are not Linux", spec.NodeSelector)
	}
	if g := spec.TerminationGracePeriodSeconds; g == nil || *g < 120 {
		t.Errorf("grace period %v is shorter than the longest call of kubelet", g)
	}
}

func TestProbesCanReachThePlugin(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		plugin := r.plugin(t)
		ports := map[string]int32{}
		for _, p := range plugin.Ports {
			ports[p.Name] = p.ContainerPort
		}
		for path, probe := range map[string]*corev1.Probe{"/healthz": plugin.LivenessProbe, "/readyz": plugin.ReadinessProbe} {
			if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path {
				t.Fatalf("no probe of %s: %+v", path, probe)
			}
			if got, want := flag(t, plugin, "health-addr"), fmt.Sprintf(":%d", ports[probe.HTTPGet.Port.String()]); got != want {
				t.Errorf("--health-addr=%s, the probe of %s goes to %s", got, path, want)
			}
		}
		if plugin.StartupProbe == nil {
			t.Error("no startup probe: a full node's plugin would be killed while it starts")
		}
		if alive := plugin.LivenessProbe; alive.PeriodSeconds*alive.FailureThreshold < 120 {
			t.Errorf("liveness gives up after %d s: a busy node would kill what unmounts its volumes", alive.PeriodSeconds*alive.FailureThreshold)
		}
		if metrics := flag(t, plugin, "metrics-addr"); metrics != "" && !strings.HasSuffix(metrics, fmt.Sprintf(":%d", ports["metrics"])) {
			t.Errorf("--metrics-addr=%s, the port is %d", metrics, ports["metrics"])
		}
		if seen := slices.Collect(maps.Values(ports)); len(seen) == 2 && seen[0] == seen[1] {
			t.Errorf("two ports are one: %v", ports)
		}
	})
}
