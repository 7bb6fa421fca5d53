package conformance_test

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// served are the RPCs of the plugin, with their answers to an empty request.
func served() map[string]codes.Code {
	return map[string]codes.Code{
		"/csi.v1.Identity/GetPluginInfo":         codes.OK,
		"/csi.v1.Identity/GetPluginCapabilities": codes.OK,
		"/csi.v1.Identity/Probe":                 codes.OK,
		"/csi.v1.Node/NodeGetInfo":               codes.OK,
		"/csi.v1.Node/NodeGetCapabilities":       codes.OK,
		"/csi.v1.Node/NodePublishVolume":         codes.InvalidArgument,
		"/csi.v1.Node/NodeUnpublishVolume":       codes.InvalidArgument,
		"/csi.v1.Node/NodeGetVolumeStats":        codes.InvalidArgument,
	}
}

// TestEveryRPC calls each RPC of each service that the specification has. What
// the plugin does not serve is UNIMPLEMENTED, so that a caller does not retry.
func TestEveryRPC(t *testing.T) {
	w := newWorld(t)
	want, unimplemented := served(), 0
	services := csi.File_csi_proto.Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			m := methods.Get(j)
			name := "/" + string(services.Get(i).FullName()) + "/" + string(m.Name())
			code, ok := want[name]
			if !ok {
				code = codes.Unimplemented
				unimplemented++
			}
			delete(want, name)
			expectCode(t, name, call(t, w.conn, name, m), code)
		}
	}
	for name := range want {
		t.Errorf("%s was not called: the specification has no such RPC", name)
	}
	const least = 27 // of 35 in version 1.13
	if unimplemented < least {
		t.Errorf("%d RPCs are not ours, want at least %d: the search is broken", unimplemented, least)
	}
}

// call makes a call with an empty request.
func call(t *testing.T, conn *grpc.ClientConn, name string, m protoreflect.MethodDescriptor) error {
	t.Helper()
	request, response := message(t, m.Input()), message(t, m.Output())
	if !m.IsStreamingServer() {
		return conn.Invoke(t.Context(), name, request, response)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, name)
	if err != nil {
		return err
	}
	// A refused stream may end before the request is sent; the reason is in
	// what is received.
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(response)
}

func message(t *testing.T, d protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface()
}

// expectCode checks an answer against the specification's error scheme: the
// code, a message for people, and no details.
func expectCode(t *testing.T, name string, err error, want codes.Code, words ...string) {
	t.Helper()
	s := status.Convert(err)
	if s.Code() != want {
		t.Errorf("%s: code = %v (%s), want %v", name, s.Code(), s.Message(), want)
		return
	}
	if want == codes.OK {
		return
	}
	// Kubelet writes the message into events and on to terminals.
	if !regexp.MustCompile(`^[ -~]{1,700}$`).MatchString(s.Message()) {
		t.Errorf("%s: message = %q, want one line of 1 to 700 printable bytes", name, s.Message())
	}
	for _, word := range words {
		if !strings.Contains(s.Message(), word) {
			t.Errorf("%s: message = %q, want it to name %q", name, s.Message(), word)
		}
	}
	if len(s.Details()) > 0 {
		t.Errorf("%s: details = %v, want none", name, s.Details())
	}
}

// TestIdentity asks what kubelet and its registrar ask, before and after the
// plugin has done something: "the same set of capabilities" at all times.
func TestIdentity(t *testing.T) {
	w := newWorld(t)
	identity := csi.NewIdentityClient(w.conn)
	check := func(t *testing.T) {
		t.Helper()
		info, err := identity.GetPluginInfo(t.Context(), &csi.GetPluginInfoRequest{})
		if err != nil {
			t.Fatal(err)
		}
		// GetPluginInfoResponse.name; general size limit of strings.
		if name := info.GetName(); name != driverName || len(name) > 63 || !regexp.MustCompile(`^[a-zA-Z0-9]([-.a-zA-Z0-9]*[a-zA-Z0-9])?$`).MatchString(name) {
			t.Errorf("GetPluginInfo(): name = %q, want %q", name, driverName)
		}
		if v := info.GetVendorVersion(); v == "" || len(v) > 128 {
			t.Errorf("GetPluginInfo(): vendor_version = %q, want 1 to 128 bytes", v)
		}
		plugin, err := identity.GetPluginCapabilities(t.Context(), &csi.GetPluginCapabilitiesRequest{})
		if err != nil || len(plugin.GetCapabilities()) > 0 {
			t.Errorf("GetPluginCapabilities() = %v, %v, want none: there is no controller", plugin, err)
		}
		probe, err := identity.Probe(t.Context(), &csi.ProbeRequest{})
		if err != nil || !probe.GetReady().GetValue() {
			t.Errorf("Probe() = %v, %v, want ready", probe, err)
		}
		node, err := w.node.NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
		want := &csi.NodeGetInfoResponse{NodeId: nodeName} // no limit of volumes, and no topology, which is not advertised
		if err != nil || !proto.Equal(node, want) {
			t.Errorf("NodeGetInfo() = %v, %v, want %v", node, err, want)
		}
		if diff := cmp.Diff([]string{"VOLUME_MOUNT_GROUP", "GET_VOLUME_STATS"}, w.capabilities(t)); diff != "" {
			t.Errorf("NodeGetCapabilities() (-want +got):\n%s", diff)
		}
	}
	check(t)
	p := w.newPod("secrets", "2000")
	w.mustPublish(p)
	check(t)
	if err := w.unpublish(p); err != nil {
		t.Errorf("NodeUnpublishVolume() = %v, want nil", err)
	}
	check(t)
}

func (w *world) capabilities(t *testing.T) (names []string) {
	t.Helper()
	caps, err := w.node.NodeGetCapabilities(t.Context(), &csi.NodeGetCapabilitiesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range caps.GetCapabilities() {
		names = append(names, c.GetRpc().GetType().String())
	}
	return names
}

// TestRequiredFields takes one field after the other out of a request that is
// complete. The suite leaves out all that follow as well.
func TestRequiredFields(t *testing.T) {
	w := newWorld(t)
	p := w.newPod("secrets", "2000")
	for name, remove := range map[string]func(*csi.NodePublishVolumeRequest){
		"volume_id":                     func(r *csi.NodePublishVolumeRequest) { r.VolumeId = "" },
		"target_path":                   func(r *csi.NodePublishVolumeRequest) { r.TargetPath = "" },
		"volume_capability":             func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability = nil },
		"volume_capability.mount":       func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability.AccessType = nil },
		"volume_capability.access_mode": func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability.AccessMode = nil },
		// A field that is false is not on the wire.
		"readOnly": func(r *csi.NodePublishVolumeRequest) { r.Readonly = false },
	} {
		r := w.publishRequest(p)
		remove(r)
		_, err := w.node.NodePublishVolume(t.Context(), r)
		expectCode(t, "NodePublishVolume without "+name, err, codes.InvalidArgument, name)
		if got := mounts(t, w.target(p)); len(got) > 0 {
			t.Fatalf("NodePublishVolume without %s mounted %q", name, got)
		}
	}
	w.mustPublish(p) // the control: the whole request is a good one
	for name, r := range map[string]*csi.NodeUnpublishVolumeRequest{
		"volume_id":   {TargetPath: w.target(p)},
		"target_path": {VolumeId: p.volumeID()},
	} {
		_, err := w.node.NodeUnpublishVolume(t.Context(), r)
		expectCode(t, "NodeUnpublishVolume without "+name, err, codes.InvalidArgument, name)
	}
	for name, r := range map[string]*csi.NodeGetVolumeStatsRequest{
		"volume_id":   {VolumePath: w.target(p)},
		"volume_path": {VolumeId: p.volumeID()},
	} {
		_, err := w.node.NodeGetVolumeStats(t.Context(), r)
		expectCode(t, "NodeGetVolumeStats without "+name, err, codes.InvalidArgument, name)
	}
	if got := mounts(t, w.target(p)); len(got) != 1 {
		t.Errorf("after refused calls %q is mounted, want the one volume", got)
	}
	if err := w.unpublish(p); err != nil {
		t.Errorf("NodeUnpublishVolume() = %v, want nil", err)
	}
}
