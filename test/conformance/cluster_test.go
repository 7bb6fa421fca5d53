package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// cluster stands between the suite and the plugin as API server and kubelet
// stand between the author of a pod and the plugin. The suite mounts volumes
// that a controller created; an inline volume comes into being with its pod, at
// a path and with arguments that kubelet alone chooses. Nothing else of a call
// is changed, and no answer of the plugin but the one that says whether volumes
// can be created at all.
type cluster struct {
	w *world
	// current is the pod whose volume the running spec mounts: the suite asks
	// for a target directory before each spec, and for a volume within it.
	current pod
	created int // pods
	// inNodeSpec reports that a spec of the node service runs. Those of the
	// identity service hear the plugin's own answers.
	inNodeSpec func() bool
}

// makeTargetDir is the suite's CreateTargetDir.
func (c *cluster) makeTargetDir(string) (string, error) {
	var err error
	c.current, err = c.w.placePod("secrets", "")
	return filepath.Dir(c.w.target(c.current)), err
}

// removeTargetDir is the suite's RemoveTargetPath. The suite ignores its
// errors, and with them what a spec left mounted or lying there.
func (c *cluster) removeTargetDir(dir string) error {
	err := os.Remove(dir)
	if err != nil {
		c.w.t.Errorf("after a spec: %v", err)
	}
	return err
}

// checkPath is the suite's CheckPath.
func (c *cluster) checkPath(path string) (sanity.PathKind, error) {
	info, err := os.Lstat(kubeletForm(path))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return sanity.PathIsNotFound, nil
	case err != nil:
		return "", err
	case info.IsDir():
		return sanity.PathIsDir, nil
	default:
		return sanity.PathIsOther, nil
	}
}

// kubeletForm gives the suite's path the last element that kubelet's has.
func kubeletForm(path string) string {
	if dir, ok := strings.CutSuffix(path, "/target"); ok {
		return dir + "/mount"
	}
	return path
}

// intercept is the client interceptor of the suite's connection.
func (c *cluster) intercept(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if strings.HasPrefix(method, "/csi.v1.Controller/") {
		return c.control(req, reply)
	}
	if err := next(ctx, method, asKubelet(req), reply, conn, opts...); err != nil {
		return err
	}
	if r, ok := reply.(*csi.GetPluginCapabilitiesResponse); ok && c.inNodeSpec() {
		r.Capabilities = append(r.Capabilities, &csi.PluginCapability{Type: &csi.PluginCapability_Service_{
			Service: &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE},
		}})
	}
	return nil
}

// control is what specs of the node service need of a controller.
func (c *cluster) control(req, reply any) error {
	switch r := reply.(type) {
	case *csi.ControllerGetCapabilitiesResponse:
		return nil // nothing but creating and deleting volumes
	case *csi.CreateVolumeResponse:
		c.created++
		r.Volume = &csi.Volume{VolumeId: c.current.volumeID(), VolumeContext: c.current.attributes()}
		return c.w.createPod(c.current)
	case *csi.DeleteVolumeResponse:
		return c.w.deletePod(c.current)
	default:
		return fmt.Errorf("the suite calls the controller with %T", req)
	}
}

// asKubelet returns a call with kubelet's path, and as of a pod that says
// readOnly: true.
func asKubelet(req any) any {
	switch r := req.(type) {
	case *csi.NodePublishVolumeRequest:
		r = proto.CloneOf(r)
		r.TargetPath, r.Readonly = kubeletForm(r.GetTargetPath()), true
		return r
	case *csi.NodeUnpublishVolumeRequest:
		r = proto.CloneOf(r)
		r.TargetPath = kubeletForm(r.GetTargetPath())
		return r
	case *csi.NodeGetVolumeStatsRequest:
		r = proto.CloneOf(r)
		r.VolumePath = kubeletForm(r.GetVolumePath())
		return r
	default:
		return req
	}
}
