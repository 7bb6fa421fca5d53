package driver_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/portcullis-csi/portcullis/driver"
)

// FuzzPublishRequest gives any message that is a request to what checks one.
// What passes is what kubelet could have sent for an inline volume; what does
// not is refused in one line that names a field and a remedy, and repeats no
// secret.
func FuzzPublishRequest(f *testing.F) {
	const root = "/var/lib/kubelet"
	n := &node{root: root}
	decent := func() *csi.NodePublishVolumeRequest { return n.request(apiPod()) }
	add := func(r *csi.NodePublishVolumeRequest) {
		raw, err := proto.Marshal(r)
		if err == nil && len(raw) < 10_000 {
			f.Add(raw)
		}
	}
	add(decent())
	for _, row := range refusals() {
		if row.change != nil {
			r := decent()
			row.change(r)
			add(r)
		}
	}
	for _, row := range acceptable() {
		if row.change != nil {
			r := decent()
			row.change(r)
			add(r)
		}
	}
	raw, err := proto.Marshal(decent())
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range messages(raw) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := &csi.NodePublishVolumeRequest{}
		if proto.Unmarshal(raw, r) != nil {
			return // gRPC refuses it
		}
		// A secret that is told from everything else in the request.
		const secret = "Sx7#never-in-a-reply"
		for key := range r.GetSecrets() {
			r.Secrets[key] += secret
		}
		got, err := driver.ParsePublish(root, r)
		if err != nil {
			checkRefusal(t, err, secret)
			return
		}
		checkParsed(t, r, got)
	})
}

func checkRefusal(t *testing.T, err error, secret string) {
	t.Helper()
	text := status.Convert(err).Message()
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(text, "; hint: ") || len(text) > 700 || strings.Contains(text, secret) {
		t.Errorf("reply = %v %q, want InvalidArgument and one line with a hint and no secret", status.Code(err), text)
	}
	for _, char := range text {
		if char < ' ' || char > '~' {
			t.Errorf("reply = %q, want printable ASCII", text)
		}
	}
}

func checkParsed(t *testing.T, r *csi.NodePublishVolumeRequest, got driver.Parsed) {
	t.Helper()
	vc := r.GetVolumeCapability()
	mode := vc.GetAccessMode().GetMode()
	switch {
	case r.GetVolumeId() == "" || !r.GetReadonly() || len(r.GetPublishContext()) > 0 || r.GetStagingTargetPath() != "":
		t.Errorf("a request was taken that kubelet does not send: %v", r)
	case vc.GetMount() == nil || vc.GetMount().GetFsType() != "" || len(vc.GetMount().GetMountFlags()) > 0:
		t.Errorf("capability was taken: %v", vc)
	case mode != 1 && mode != 2 && mode != 6 && mode != 7:
		t.Errorf("access mode %v was taken", mode)
	case r.GetTargetPath() != "/var/lib/kubelet/pods/"+got.PodUID+"/volumes/kubernetes.io~csi/"+got.Volume+"/mount":
		t.Errorf("target %q was read as pod %q, volume %q", r.GetTargetPath(), got.PodUID, got.Volume)
	}
	if group := vc.GetMount().GetVolumeMountGroup(); (got.Group == nil) != (group == "") || got.Group != nil && (strconv.FormatInt(*got.Group, 10) != group || *got.Group < 0 || *got.Group > 1<<31-1) {
		t.Errorf("group %q was read as %v", group, got.Group)
	}
	context := r.GetVolumeContext()
	for name, value := range map[string]string{
		"csi.storage.k8s.io/pod.name": got.Claim.Pod, "csi.storage.k8s.io/serviceAccount.name": got.Claim.ServiceAccount, "secretProviderClass": got.Class,
	} {
		if value != context[name] || len(validation.IsDNS1123Subdomain(value)) > 0 {
			t.Errorf("%s %q was read as %q, want a name of an object", name, context[name], value)
		}
	}
	if ns := got.Claim.Namespace; ns != context["csi.storage.k8s.io/pod.namespace"] || len(validation.IsDNS1123Label(ns)) > 0 {
		t.Errorf("namespace was read as %q, want a name of a namespace", ns)
	}
	if got.Claim.PodUID != got.PodUID || got.Claim.Volume != got.Volume || context["csi.storage.k8s.io/ephemeral"] != "true" {
		t.Errorf("claim = %+v, want pod and volume of the target", got.Claim)
	}
}
