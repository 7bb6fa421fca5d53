package driver_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, errors.New("not bytes")
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (rawCodec) Unmarshal(mem.BufferSlice, any) error { return nil }

// send makes a call of these bytes.
func (n *node) send(method string, b []byte) error {
	var reply struct{}
	return n.conn.Invoke(n.t.Context(), method, b, &reply, grpc.ForceCodecV2(rawCodec{}))
}

func field(number protowire.Number, text string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), text)
}

// pair is one entry of a map field.
func pair(number protowire.Number, key, value string) []byte {
	return field(number, string(append(field(1, key), field(2, value)...)))
}

// messages are bytes in the place of a publish request that is in order, to
// which they are added or which they replace.
func messages(decent []byte) map[string][]byte {
	with := func(more ...[]byte) []byte { return slices.Concat(append([][]byte{decent}, more...)...) }
	noise := make([]byte, 4096)
	for i := range noise {
		noise[i] = byte(rand.N(256))
	}
	return map[string][]byte{
		"text":                        []byte(strings.Repeat(spill, 100)),
		"noise":                       noise,
		"cut off":                     decent[:len(decent)-1],
		"cut in the middle":           decent[:len(decent)/2],
		"length beyond the end":       with([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x07}),
		"length that overflows":       with([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}),
		"group without an end":        with([]byte{0x0b}),
		"field number 0":              with([]byte{0x02, 0x00}),
		"wire type 7":                 with([]byte{0x0f}),
		"volume_id that is a number":  with([]byte{0x08, 0x01}, []byte{0x00}),
		"target that is not UTF-8":    with(field(4, "/\xff"+spill)),
		"id that is not UTF-8":        with(field(1, "\xc0\x80"+spill)),
		"key that is not UTF-8":       with(pair(8, "\xff"+spill, "x")),
		"attribute that is not UTF-8": with(pair(8, "objects", "\xed\xa0\x80"+spill)),
		"secret that is not UTF-8":    with(pair(7, "password", spill+"\xff")),
		"fsType that is not UTF-8":    with(field(5, string(field(2, string(field(1, "\xff"+spill)))))),
		"publish info, not UTF-8":     with(pair(2, spill+"\xff", "x")),
	}
}

// TestP12MessagesThatAreNoRequests: what gRPC hands up is decoded by generated
// code before the driver sees it. Nothing of what was sent comes back, and the
// plugin goes on.
func TestP12MessagesThatAreNoRequests(t *testing.T) {
	n := newNode(t)
	decent, err := proto.Marshal(n.request(apiPod()))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range messages(decent) {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{csi.Node_NodePublishVolume_FullMethodName, csi.Node_NodeUnpublishVolume_FullMethodName, csi.Node_NodeGetVolumeStats_FullMethodName} {
				err := n.send(method, b)
				if method == csi.Node_NodePublishVolume_FullMethodName && status.Code(err) != codes.Internal {
					t.Errorf("%s = %v, want Internal", method, err)
				}
				n.checkSpill(err)
			}
			n.expectNothing(apiPod())
		})
	}
	if calls := len(n.provider.Calls()); calls != 0 {
		t.Errorf("provider calls = %d, want none", calls)
	}
	n.expectNoPanic()
	// The control: the same bytes without the fault are a request, twice the
	// same field included, of which the last counts.
	if err := n.send(csi.Node_NodePublishVolume_FullMethodName, slices.Concat(field(4, "/elsewhere"), decent)); err != nil {
		t.Errorf("the decent message = %v, want nil", err)
	}
	n.mustUnpublish(apiPod())
}

// TestP12RequestsBeyondFourMebibytes are refused unread, with the size that
// gRPC has by default and kubelet knows.
func TestP12RequestsBeyondFourMebibytes(t *testing.T) {
	n := newNode(t)
	r := n.request(apiPod())
	r.Secrets = map[string]string{"password": strings.Repeat(spill, 4<<20/len(spill)+1)}
	_, err := n.csi.NodePublishVolume(t.Context(), r)
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("NodePublishVolume(more than 4 MiB) = %v, want ResourceExhausted", err)
	}
	n.expectNothing(apiPod())
	n.checkSpill(err)
	r.Secrets = map[string]string{"password": strings.Repeat("x", 3<<20)} // no Secret is larger than 1 MiB
	if _, err := n.csi.NodePublishVolume(t.Context(), r); err != nil {
		t.Errorf("NodePublishVolume(3 MiB) = %v, want nil", err)
	}
}

// TestP12EveryMethodHasAnAnswer: what this driver does not do says so, and no
// method is new without anybody having thought about it.
func TestP12EveryMethodHasAnAnswer(t *testing.T) {
	n := newNode(t)
	got := map[string]string{}
	for _, service := range []grpc.ServiceDesc{csi.Node_ServiceDesc, csi.Identity_ServiceDesc, csi.Controller_ServiceDesc, csi.GroupController_ServiceDesc, csi.SnapshotMetadata_ServiceDesc} {
		for _, m := range service.Methods {
			err := n.send("/"+service.ServiceName+"/"+m.MethodName, nil)
			if code := status.Code(err); code != codes.Unimplemented || strings.HasPrefix(service.ServiceName, "csi.v1.Node") {
				got[m.MethodName] = code.String()
			}
		}
	}
	want := map[string]string{
		"NodeStageVolume": "Unimplemented", "NodeUnstageVolume": "Unimplemented", "NodeExpandVolume": "Unimplemented",
		"NodeGetVolumeHealth": "Unimplemented", "NodeGetStorageHealth": "Unimplemented",
		"NodePublishVolume": "InvalidArgument", "NodeUnpublishVolume": "InvalidArgument", "NodeGetVolumeStats": "InvalidArgument",
		"NodeGetCapabilities": "OK", "NodeGetInfo": "OK", "GetPluginInfo": "OK", "GetPluginCapabilities": "OK", "Probe": "OK",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answers to empty requests (-want +got):\n%s", diff)
	}
	for _, m := range []proto.Message{&csi.NodeGetInfoRequest{}, &csi.NodeGetCapabilitiesRequest{}, &csi.GetPluginInfoRequest{}, &csi.GetPluginCapabilitiesRequest{}, &csi.ProbeRequest{}} {
		if fields := fieldsOf(m.ProtoReflect().Descriptor(), ""); len(fields) > 0 {
			t.Errorf("%s has the fields %q, and no test has a row for them", m.ProtoReflect().Descriptor().Name(), fields)
		}
	}
	if err := n.send("/csi.v1.Node/"+spill, nil); status.Code(err) != codes.Unimplemented {
		t.Errorf("a method that does not exist = %v, want Unimplemented", err)
	}
	if log := n.stderr.String(); strings.Contains(log, spill) {
		t.Errorf("the log repeats the name of a method: %s", fmt.Sprintf("%.200s", log))
	}
}
