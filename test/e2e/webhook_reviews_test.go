//go:build e2e

package e2e_test

import (
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// podsAreReviewed: who applies a pod reads why it is denied and what to do, what is
// warned of, or nothing at all; and so does who reads the logs afterwards.
func (w *world) podsAreReviewed() {
	w.ungranted("strange")
	w.namespace("known")

	out := w.refused(manifest(pod("strange", "denied")))
	decision := w.told(out, podsHook, "PR-001", `ask the owner of local://node/app/password[^;]* for a grant to service account app in namespace strange`)
	if want := `Error from server (Forbidden): error when creating "STDIN": admission webhook `; !strings.HasPrefix(out, want) {
		w.Errorf("kubectl prints %q, want it to begin with %q", out, want)
	}
	w.plain(strings.TrimSuffix(out, "\n"))
	if got := w.onRecord(w.reviewOf("create", "strange", "denied"), "deny", "PR-001"); got != decision {
		w.Errorf("kubectl prints the decision %s, and the API server's audit log has %s", decision, got)
	}

	warned := pod("known", "warned")
	warned.Spec.Volumes = append(warned.Spec.Volumes, corev1.Volume{Name: "logs", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/log"}}})
	out, err := w.said(manifest(warned), "apply", "-f", "-")
	if want := `Warning: volume secrets: PR-202: the pod mounts paths of the node that are not listed: "/var/log"`; err != nil || !strings.Contains(out, want) || !strings.HasSuffix(out, "pod/warned created\n") {
		w.Errorf("kubectl apply of the pod that is warned of = %v: %s, want %s", err, out, want)
	}
	w.onRecord(w.reviewOf("create", "known", "warned"), "allow", "PR-202")

	if out, err = w.said(manifest(pod("known", "allowed")), "apply", "-f", "-"); err != nil || out != "pod/allowed created\n" {
		w.Errorf("kubectl apply of a pod that is allowed = %v: %s, want it created without a warning", err, out)
	}
	w.onRecord(w.reviewOf("create", "known", "allowed"), "allow")
	w.kubectl("wait", "-n", "known", "pod/allowed", "pod/warned", "--for=condition=Ready", "--timeout=120s")

	// A dry run is decided in the same words, and leaves no event.
	dry := w.told(w.refused(manifest(pod("strange", "tried")), "--dry-run=server"), podsHook, "PR-001", `[^;]*`)
	if events := w.reviewEvents(dry); len(events) != 0 {
		w.Errorf("a dry run left the events %+v", events)
	}
	// What is none of the driver's business is not asked about.
	w.started(withoutSecrets("strange", "other"))
	asked := w.requestsThat(func(r request) bool {
		return r.annotation("verdict") != "" && r.ObjectRef != nil && r.ObjectRef.Name == "other"
	})
	if len(asked) != 0 {
		w.Errorf("the webhook was asked about a pod without secrets: %+v", asked)
	}
}

// withoutSecrets is a pod without a volume of the driver.
func withoutSecrets(namespace, name string) *corev1.Pod {
	p := pod(namespace, name)
	p.Spec.Volumes, p.Spec.Containers[0].VolumeMounts = nil, nil
	return p
}

// templatesAreWarnedOf: who applies a workload hears what its pods would be refused
// for, and the workload is there.
func (w *world) templatesAreWarnedOf() {
	w.ungranted("templates-strange")
	w.namespace("templates-known")
	for _, kind := range []string{"Deployment", "StatefulSet"} {
		more := map[string]string{"StatefulSet": "serviceName: db"}[kind]
		out, err := w.said(workload(kind, "templates-strange", 0, more), "apply", "-f", "-")
		// Kubernetes asks for short warnings: the rule comes first, and the rest is cut off.
		const want = "Warning: volume secrets: pods would be denied by PR-001: no live grant lets service account app in namespace "
		if err != nil || !strings.Contains(out, want) || !strings.HasSuffix(out, "/db created\n") {
			w.Errorf("kubectl apply of a %s = %v: %s, want %s", kind, err, out, want)
		}
		if out, err := w.said(workload(kind, "templates-known", 0, more), "apply", "-f", "-"); err != nil || strings.Contains(out, "Warning") {
			w.Errorf("kubectl apply of a %s whose pods are allowed = %v: %s, want no warning", kind, err, out)
		}
	}
	// No event is left: the pods are what is decided on.
	if out := w.kubectl("get", "deployment,statefulset", "-n", "templates-strange", "-o", "name"); strings.Count(out, "/db\n") != 2 {
		w.Errorf("the workloads that were warned of are %q, want both", out)
	}
}

// classesAreReviewed: a class with a password in it is refused, whose value nobody
// repeats; any other is told which grants there are.
func (w *world) classesAreReviewed() {
	w.ungranted("classes-strange")
	w.namespace("classes-known")
	const hook, value = "classes.admission.portcullis.dev", "tr0ub4dor"
	literal := strings.Replace(class("classes-known", "literal", "password"), "  parameters:\n", "  parameters:\n    password: "+value+"\n", 1)
	out := w.refused(literal)
	want := `admission webhook "` + hook + `" denied the request: denied by policy: PR-120; hint: remove the parameter, replace the credential`
	if !strings.Contains(out, want) || strings.Contains(out, value) {
		w.Errorf("kubectl prints %q, want %s, and not the value", out, want)
	}
	requests := w.requestsThat(func(r request) bool {
		return r.Annotations[hook+"/rules"] == "PR-120" && r.ObjectRef != nil && r.ObjectRef.Name == "literal" && r.ResponseStatus.Code == 403
	})
	if len(requests) != 1 || requests[0].Annotations[hook+"/verdict"] != "deny" {
		w.Errorf("the API server's audit log has %+v, want one denial of the class", requests)
	}
	for namespace, want := range map[string]string{
		"classes-strange": "Warning: PR-001: no grant in namespace classes-strange names local://node/app/user",
		"classes-known":   "Warning: granted in namespace classes-known by e2e-app (service account app)",
	} {
		if out, err := w.said(class(namespace, "other", "user"), "apply", "-f", "-"); err != nil || !strings.Contains(out, want) {
			w.Errorf("kubectl apply of a class in %s = %v: %s, want %s", namespace, err, out, want)
		}
	}
}

// debugIsRefused: kubectl debug does not get a container into a pod with secrets,
// whether it asks for rights or not.
func (w *world) debugIsRefused() {
	p := w.started(pod(w.namespace("debugged"), "app"))
	for _, try := range []struct {
		profile, remedy string
		rules           []string
	}{
		{"restricted", `debug a copy of the pod without its secrets[^;]*`, []string{"PR-203"}},
		{"general", `[^;]*"SYS_PTRACE"`, []string{"PR-203", "PR-204"}}, // the graver one first
	} {
		out, err := w.said("", "debug", "-n", p.Namespace, p.Name, "--image=busybox:1.37", "--image-pull-policy=Never", "--container=looks", "--profile="+try.profile, "--target=main", "--", "sleep", "1000")
		if err == nil {
			w.Errorf("kubectl debug --profile=%s was not refused: %s", try.profile, out)
		}
		decision := w.told(out, podsHook, strings.Join(try.rules, ", "), try.remedy)
		r := w.reviewOf("patch", p.Namespace, p.Name)
		if got := w.onRecord(r, "deny", try.rules...); got != decision || r.ObjectRef.Subresource != "ephemeralcontainers" {
			w.Errorf("kubectl prints the decision %s, and the API server's audit log has %s on pods/%s", decision, got, r.ObjectRef.Subresource)
		}
	}
	if now := w.now(p); len(now.Spec.EphemeralContainers) != 0 {
		w.Errorf("the pod has the ephemeral containers %+v", now.Spec.EphemeralContainers)
	}
	w.reads(p, "/secrets/password", "first")
}

// imagesAreReviewed: another image of a pod that runs is decided on before it runs;
// whatever else changes is not.
func (w *world) imagesAreReviewed() {
	p := w.started(pod(w.namespace("imaged"), "app"))
	setImage := func(image string) (string, error) {
		return w.said("", "set", "image", "-n", p.Namespace, "pod/"+p.Name, "main="+image)
	}
	out, err := setImage(foreignImage)
	if err == nil {
		w.Errorf("kubectl set image was not refused: %s", out)
	}
	decision := w.told(out, podsHook, "PR-300", regexp.QuoteMeta(foreignRemedy))
	if got := w.onRecord(w.reviewOf("patch", p.Namespace, p.Name), "deny", "PR-300"); got != decision {
		w.Errorf("kubectl prints the decision %s, and the API server's audit log has %s", decision, got)
	}
	if now := w.now(p); now.Spec.Containers[0].Image != "busybox:1.37" || w.restarts(p, "main") != 0 {
		w.Errorf("the pod runs %s after %d restarts, want it untouched", now.Spec.Containers[0].Image, w.restarts(p, "main"))
	}
	w.reads(p, "/secrets/password", "first")

	const allowed = "docker.io/library/busybox:1.37"
	if out, err := setImage(allowed); err != nil || out != "pod/app image updated\n" {
		w.Fatalf("kubectl set image to one that policy allows = %v: %s", err, out)
	}
	reviewed := w.onRecord(w.reviewOf("patch", p.Namespace, p.Name), "allow")
	w.eventually(time.Minute, "the container runs the image that was allowed", func() error {
		return differs("restarts", 0, w.restarts(p, "main"))
	})
	w.becomes(p, "/secrets/password", "first", time.Minute)

	w.kubectl("label", "pod", "-n", p.Namespace, p.Name, "team=payments")
	if last := w.reviewOf("patch", p.Namespace, p.Name).annotation("decision-id"); last != reviewed {
		w.Errorf("a label was reviewed: the last decision is %s, want %s of the image", last, reviewed)
	}
}
