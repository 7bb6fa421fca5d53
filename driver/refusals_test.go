package driver_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	corev1 "k8s.io/api/core/v1"
	spcv1 "sigs.k8s.io/secrets-store-csi-driver/apis/v1"

	"github.com/portcullis-csi/portcullis/audit"
)

var update = flag.Bool("update", false, "rewrite the table of refusals in docs/OPERATIONS.md")

// refusal is a request, a pod or a class that is not as it should be, and
// the reply that a first publish of it gets.
type refusal struct {
	name   string
	covers string // fields of the request or of an object, separated by blanks, that are wrong
	field  string // as the reply names it
	world  func(*node, *pod)
	change func(*csi.NodePublishVolumeRequest)
	code   codes.Code
	says   string // the reply up to its hint
	remedy string
	reason audit.Reason
	// elsewhere: the request does not lead to the pod's volume, or is none that
	// a republish refuses, so that there is no republish of it.
	elsewhere bool
}

// refusals are all of them; the document has them in this order.
func refusals() []refusal {
	return slices.Concat(requestRefusals(), claimRefusals(), attributeRefusals(), podRefusals(), tokenRefusals(), driverObjectRefusals(), classRefusals(), policyRefusals())
}

// run makes one first publish of the refused, in a world of its own.
func (r refusal) run(n *node, p *pod) error {
	if r.world != nil {
		r.world(n, p)
	}
	req := n.request(*p)
	if r.change != nil {
		r.change(req)
	}
	_, err := n.csi.NodePublishVolume(n.t.Context(), req)
	return err
}

// restore puts the world back as the fixture made it.
func (n *node) restore(p pod) {
	n.t.Helper()
	n.write("objects.yaml", objects)
	n.remove(p)
}

// reply is the text of a reply, without the decision id.
func reply(err error) string {
	text, _, _ := strings.Cut(status.Convert(err).Message(), "; decision ")
	return text
}

// expectReply compares a whole reply with a row, but for a decision id.
func (r refusal) expectReply(t *testing.T, err error) {
	t.Helper()
	if text, want := reply(err), r.says+"; hint: "+r.remedy; status.Code(err) != r.code || text != want {
		t.Errorf("reply = %v\n%s\nwant    %v\n%s", status.Code(err), text, r.code, want)
	}
	if !strings.Contains(r.says, r.field) || r.remedy == "" {
		t.Errorf("the reply %q does not name the field %q, or no remedy", r.says, r.field)
	}
	expectStatus(t, err, r.code)
}

// acceptable are requests that are not what kubelet sends today, and harmless.
func acceptable() map[string]refusal {
	context := func(key, value string) func(*csi.NodePublishVolumeRequest) {
		return func(r *csi.NodePublishVolumeRequest) { r.VolumeContext[key] = value }
	}
	mode := func(m csi.VolumeCapability_AccessMode_Mode) refusal {
		return refusal{covers: "volume_capability.access_mode.mode", change: func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability.AccessMode.Mode = m }}
	}
	return map[string]refusal{
		"any volume id":      {covers: "volume_id", change: func(r *csi.NodePublishVolumeRequest) { r.VolumeId = "../../" + strings.Repeat("x", 64<<10) }},
		"read by one node":   mode(csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY),
		"one writer":         mode(csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER),
		"many of one node":   mode(csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER),
		"a later kubelet's":  {covers: "volume_context", change: context("csi.storage.k8s.io/later", spill)},
		"empty publish info": {covers: "publish_context", change: func(r *csi.NodePublishVolumeRequest) { r.PublishContext = map[string]string{} }},
		"secrets of a later kubelet": {covers: "secrets", change: func(r *csi.NodePublishVolumeRequest) {
			r.Secrets = map[string]string{"csi.storage.k8s.io/later": spill}
		}},
		"secret of the pod's own": {covers: "csi.nodePublishSecretRef", world: manifest("readOnly: true", "nodePublishSecretRef: {name: creds}, readOnly: true"),
			change: func(r *csi.NodePublishVolumeRequest) { r.Secrets = map[string]string{"user": "u", "password": "p"} }},
		"a field of a later CSI": {change: func(r *csi.NodePublishVolumeRequest) {
			r.ProtoReflect().SetUnknown([]byte{0xfa, 0x3f, byte(len(spill))})
			r.ProtoReflect().SetUnknown(append(r.ProtoReflect().GetUnknown(), spill...))
		}},
	}
}

// TestHarmlessRequestsAreServed: they are mounted, and nothing of what was odd
// about them reaches the provider or is kept.
func TestHarmlessRequestsAreServed(t *testing.T) {
	n := newNode(t)
	n.remove(apiPod())
	for i, name := range slices.Sorted(maps.Keys(acceptable())) {
		t.Run(name, func(t *testing.T) {
			p := numbered(i)
			n.add(p)
			if err := acceptable()[name].run(n, &p); err != nil {
				t.Errorf("NodePublishVolume() = %v, want nil", err)
			}
			if diff := cmp.Diff(secretFiles(), n.content(p)); diff != "" {
				t.Errorf("content (-want +got):\n%s", diff)
			}
			calls := n.provider.Calls()
			if sent := fmt.Sprint(calls[len(calls)-1]); strings.Contains(sent, spill) || strings.Contains(sent, "later") {
				t.Errorf("the provider got %s", sent)
			}
			n.checkSpill(nil)
			n.mustUnpublish(p)
			n.remove(p)
		})
	}
}

// fieldsOf lists the fields of a message, those of its messages included.
func fieldsOf(d protoreflect.MessageDescriptor, prefix string) []string {
	var names []string
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		name := prefix + string(f.Name())
		if f.Message() == nil || f.IsMap() || f.Message().Fields().Len() == 0 {
			names = append(names, name)
			continue
		}
		names = append(names, fieldsOf(f.Message(), name+".")...)
	}
	return names
}

// TestEveryFieldHasARow fails when a field is added to the request or to the
// objects behind it, until somebody has decided what becomes of it.
func TestEveryFieldHasARow(t *testing.T) {
	var want []string
	want = append(want, fieldsOf((&csi.NodePublishVolumeRequest{}).ProtoReflect().Descriptor(), "")...)
	for _, m := range []proto.Message{&csi.NodeUnpublishVolumeRequest{}, &csi.NodeGetVolumeStatsRequest{}} {
		d := m.ProtoReflect().Descriptor()
		want = append(want, fieldsOf(d, string(d.Name())+".")...)
	}
	want = append(want, jsonFields[corev1.CSIVolumeSource]("csi.")...)
	want = append(want, jsonFields[spcv1.SecretProviderClassSpec]("spec.")...)
	want = append(want, jsonFields[spcv1.SecretObject]("spec.secretObjects.")...)
	covered := map[string]bool{}
	add := func(covers string) {
		for _, name := range strings.Fields(covers) {
			covered[name] = true
		}
	}
	for _, r := range refusals() {
		add(r.covers)
	}
	for _, r := range acceptable() {
		add(r.covers)
	}
	for _, r := range volumeRefusals() {
		add(r.covers)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(covered))); diff != "" {
		t.Errorf("fields without a row, and rows without a field (-fields +rows):\n%s", diff)
	}
}

func jsonFields[T any](prefix string) []string {
	var names []string
	for f := range reflect.TypeFor[T]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, prefix+name)
	}
	return names
}

const (
	operations    = "../docs/OPERATIONS.md"
	refusalsBegin = "<!-- refusals:begin -->\n"
	refusalsEnd   = "<!-- refusals:end -->"
)

// refusalTable is what the document says: each reply once, and one for all keys.
func refusalTable() string {
	key := regexp.MustCompile(`\["[^\]]*"\]`)
	var b strings.Builder
	b.WriteString("| field | code | what the reply says | remedy |\n|---|---|---|---|\n")
	escape := strings.NewReplacer("|", `\|`, "<", `\<`, "*", `\*`)
	seen := map[string]bool{}
	rows := refusals()
	for _, r := range volumeRefusals() {
		rows = append(rows, refusal{field: r.field, code: r.code, says: r.says, remedy: r.remedy})
	}
	for _, r := range rows {
		field, says := key.ReplaceAllString(r.field, `["..."]`), key.ReplaceAllString(r.says, `["..."]`)
		line := fmt.Sprintf("| `%s` | %s | %s | %s |\n", field, r.code, escape.Replace(says), escape.Replace(r.remedy))
		if !seen[line] {
			seen[line] = true
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestRefusalsAreDocumented keeps the document at what the tests above prove.
func TestRefusalsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), refusalsBegin)
	table, tail, ok2 := strings.Cut(rest, refusalsEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no block of refusals", operations)
	}
	want := refusalTable()
	if *update {
		if err := os.WriteFile(operations, []byte(head+refusalsBegin+want+refusalsEnd+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, table); diff != "" {
		t.Errorf("refusals in %s differ; run make generate (-want +got):\n%s", operations, diff)
	}
}
