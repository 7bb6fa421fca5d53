package driver_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

// everyCall makes the three calls that name a target.
func (n *node) everyCall(target string) map[string]error {
	r := n.request(apiPod())
	r.TargetPath = target
	_, publish := n.csi.NodePublishVolume(n.t.Context(), r)
	_, unpublish := n.csi.NodeUnpublishVolume(n.t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: "v", TargetPath: target})
	_, stats := n.csi.NodeGetVolumeStats(n.t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: "v", VolumePath: target})
	return map[string]error{"target_path of publish": publish, "target_path of unpublish": unpublish, "volume_path of stats": stats}
}

// TestP12OnlyTheDocumentedTargetIsServed spells the target of a mounted volume,
// and of others that are there, in every way but kubelet's.
func TestP12OnlyTheDocumentedTargetIsServed(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	good, evil := n.target(apiPod()), n.root+"-evil"
	with := func(old, replacement string) string { return strings.Replace(good, old, replacement, 1) }
	for _, dir := range []string{
		filepath.Dir(with(n.root, evil)), filepath.Dir(with("~csi", "~secret")), filepath.Join(filepath.Dir(good), "other"),
		with(apiUID, strings.ReplaceAll(apiUID, "-", "")), with("/secrets/", "/SECRETS/"), n.root + "/plugins/kubernetes.io/csi/x/globalmount",
	} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Dir(good), filepath.Join(n.root, "pods", "link")); err != nil {
		t.Fatal(err)
	}
	before, mounted := hardeningtest.Fingerprint(t, n.root), mountLines(t, good)
	evilBefore := hardeningtest.Fingerprint(t, evil)
	for name, target := range map[string]string{
		"trailing slash":                 good + "/",
		"two trailing slashes":           good + "//",
		"double slash at the start":      "/" + good,
		"double slash":                   with("/volumes/", "//volumes/"),
		"dot":                            with("/volumes/", "/./volumes/"),
		"dot at the end":                 good + "/.",
		"parent and back":                with("/pods/", "/pods/../pods/"),
		"parent at the end":              good + "/..",
		"parent of the root":             n.root + "/../" + filepath.Base(n.root) + strings.TrimPrefix(good, n.root),
		"UID of dots":                    with(apiUID, ".."),
		"volume of dots":                 with("/secrets/", "/../"),
		"upper-case UID":                 with(apiUID, "AAAAAAAA-1111-4111-8111-111111111111"),
		"UID of a static pod":            with(apiUID, strings.ReplaceAll(apiUID, "-", "")),
		"UID in braces":                  with(apiUID, "{"+apiUID+"}"),
		"UID too long":                   with(apiUID, apiUID+"1"),
		"UID with a blank":               with(apiUID, apiUID+" "),
		"UID in full-width digits":       with(apiUID, "１"+apiUID[1:]),
		"no UID":                         with(apiUID, ""),
		"volume that is no DNS label":    with("/secrets/", "/sec_rets/"),
		"volume in upper case":           with("/secrets/", "/SECRETS/"),
		"volume too long":                with("/secrets/", "/"+strings.Repeat("s", 64)+"/"),
		"volume with NUL":                with("/secrets/", "/secrets\x00/"),
		"volume with a newline":          with("/secrets/", "/secrets\n/"),
		"volume with an escape sequence": with("/secrets/", "/\x1b[2Jsecrets/"),
		"volume with a look-alike":       with("/secrets/", "/sеcrets/"), // a Cyrillic letter
		"volume with a zero-width space": with("/secrets/", "/sec\u200brets/"),
		"volume written backwards":       with("/secrets/", "/\u202esterces/"),
		"volume with a percent":          with("/secrets/", "/%73ecrets/"),
		"no volume":                      with("/secrets/", "/"),
		"two volumes":                    with("/secrets/", "/secrets/secrets/"),
		"kubelet's secret volumes":       with("kubernetes.io~csi", "kubernetes.io~secret"),
		"kubelet's projected volumes":    with("kubernetes.io~csi", "kubernetes.io~projected"),
		"plugin in another spelling":     with("kubernetes.io~csi", "kubernetes.io/csi"),
		"subPath":                        n.root + "/pods/" + apiUID + "/volume-subpaths/secrets/main/0",
		"staging path":                   n.root + "/plugins/kubernetes.io/csi/x/globalmount",
		"other instead of mount":         filepath.Join(filepath.Dir(good), "other"),
		"mount in upper case":            filepath.Join(filepath.Dir(good), "MOUNT"),
		"mount with a NUL":               good + "\x00",
		"mount with a newline":           good + "\n",
		"vol_data.json":                  filepath.Join(filepath.Dir(good), "vol_data.json"),
		"the volume's directory":         filepath.Dir(good),
		"below the volume":               good + "/..data",
		"a file in the volume":           good + "/password",
		"the root itself":                n.root,
		"the root of the node":           "/",
		"relative":                       good[1:],
		"relative to the root":           strings.TrimPrefix(good, n.root+"/"),
		"another kubelet's root":         with(n.root, evil),
		"the root as a prefix":           n.root + "-evil",
		"the root in upper case":         with(n.root, strings.ToUpper(n.root)),
		"through a link":                 n.root + "/pods/link/mount",
		"through proc":                   "/proc/self/root" + good,
		"a URL":                          "file://" + good,
		"beyond PATH_MAX":                good + strings.Repeat("/x", 3000),
		"beyond PATH_MAX in front":       strings.Repeat("/..", 2000) + good,
		"one name beyond NAME_MAX":       with("/secrets/", "/"+strings.Repeat("s", 300)+"/"),
	} {
		t.Run(name, func(t *testing.T) {
			for call, err := range n.everyCall(target) {
				field, _, _ := strings.Cut(call, " ")
				if field == "volume_path" {
					// The specification's answer for any path without a volume.
					expectStatus(t, err, codes.NotFound, field, "; hint: ")
					continue
				}
				remedy := "; hint: give --kubelet-root"
				if name == "UID of a static pod" {
					remedy = "; hint: run it as a DaemonSet"
				}
				expectStatus(t, err, codes.InvalidArgument, field, remedy)
			}
		})
	}
	for call, err := range n.everyCall("") {
		field, _, _ := strings.Cut(call, " ")
		expectStatus(t, err, codes.InvalidArgument, field+" is missing", "; hint: ")
	}
	if diff := cmp.Diff(before, hardeningtest.Fingerprint(t, n.root)); diff != "" {
		t.Errorf("kubelet's directory (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(evilBefore, hardeningtest.Fingerprint(t, evil)); diff != "" {
		t.Errorf("the directory beside it (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(mounted, mountLines(t, good)); diff != "" {
		t.Errorf("mount table (-before +after):\n%s", diff)
	}
	if calls := len(n.provider.Calls()); calls != 1 {
		t.Errorf("provider calls = %d, want the one of the first publish", calls)
	}
	// The control: kubelet's own spelling is served by all three.
	for call, err := range n.everyCall(good) {
		if err != nil && !strings.HasPrefix(call, "volume_path") {
			t.Errorf("%s, spelled as kubelet does, = %v, want nil", call, err)
		}
	}
}

// TestTargetOfAnotherIsRefused: the path is kubelet's word for who asks, and
// what else the request says must agree.
func TestTargetOfAnotherIsRefused(t *testing.T) {
	n := newNode(t)
	n.add(secondPod())
	n.mustPublish(secondPod())
	before := n.content(secondPod())
	unknown := "33333333-3333-4333-8333-333333333333"
	for name, c := range map[string]struct {
		uid, volume string
		code        codes.Code
		mounted     bool // a volume is there: nothing about it may be final
	}{
		"UID of another pod":                {uid: secondPod().uid, volume: volume, mounted: true},
		"UID of no pod":                     {uid: unknown, volume: volume, code: codes.PermissionDenied},
		"a volume that the pod has not":     {uid: apiUID, volume: "other", code: codes.PermissionDenied},
		"a volume named like the pod":       {uid: apiUID, volume: "api-0", code: codes.PermissionDenied},
		"another pod's UID, no such volume": {uid: secondPod().uid, volume: "other", code: codes.PermissionDenied},
	} {
		target := hardeningtest.VolumeDir(t, n.root, c.uid, c.volume)
		t.Run(name, func(t *testing.T) {
			r := n.request(apiPod())
			r.TargetPath = target
			n.clock.advance(2 * refreshInterval)
			calls := len(n.provider.Calls())
			_, err := n.csi.NodePublishVolume(t.Context(), r)
			if !c.mounted {
				expectStatus(t, err, c.code, "; hint: ")
			} else if err != nil {
				t.Errorf("NodePublishVolume() at a mounted volume = %v, want nil", err)
			}
			if got := len(n.provider.Calls()); got != calls {
				t.Errorf("the provider was called %d times, want 0", got-calls)
			}
			if lines := mountLines(t, r.GetTargetPath()); len(lines) > 0 != c.mounted {
				t.Errorf("mounted afterwards: %q", lines)
			}
		})
	}
	if diff := cmp.Diff(before, n.content(secondPod())); diff != "" {
		t.Errorf("volume of the other pod (-before +after):\n%s", diff)
	}
}

// keep remembers the setup of a node, for a restart.
func keep(kept *setup) func(*setup) { return func(s *setup) { *kept = *s } }

// restart is the plugin ending and starting again with volumes.db lost, or
// with another --kubelet-root.
func (n *node) restart(s setup, root string) {
	n.t.Helper()
	n.root = root
	n.build(s)
	if err := n.driver.Recover(nil); err != nil {
		n.t.Fatalf("Recover() = %v, want nil", err)
	}
	n.serve()
}

func rotatesAtOnce(s *setup) {
	s.provider.Handler = providertest.InTurn(providertest.Files(secretFiles()), providertest.Files(newContent()), providertest.Files(secretFiles()))
}

// wholeLife publishes, rotates, restarts, rotates again and unpublishes. behind
// is where the path of the target leads to.
func (n *node) wholeLife(s setup, behind string) {
	n.t.Helper()
	n.mustPublish(apiPod())
	n.clock.advance(2 * refreshInterval)
	n.mustPublish(apiPod())
	if diff := cmp.Diff(newContent(), n.content(apiPod())); diff != "" {
		n.t.Errorf("content after rotation (-want +got):\n%s", diff)
	}
	before := mountLines(n.t, behind)
	if len(before) != 1 {
		n.t.Fatalf("mount table at %q = %q, want one mount", behind, before)
	}
	n.restart(s, n.root)
	if mounts, err := n.volumes.Mounts(); err != nil || len(mounts) != 1 || mounts[0].PodUID != apiUID || mounts[0].Volume != volume {
		n.t.Errorf("Mounts() = %+v, %v, want the one volume", mounts, err)
	}
	if _, ok := n.records.Get(apiUID, volume); !ok {
		n.t.Error("the record was not rebuilt from the mount table")
	}
	if err := n.driver.Unlocked(); err != nil {
		n.t.Errorf("Unlocked() after the restart = %v, want nil", err)
	}
	n.clock.advance(2 * refreshInterval)
	n.mustPublish(apiPod())
	if diff := cmp.Diff(secretFiles(), n.content(apiPod())); diff != "" {
		n.t.Errorf("content after restart and rotation (-want +got):\n%s", diff)
	}
	if after := mountLines(n.t, behind); len(after) != 1 || strings.Fields(after[0])[0] != strings.Fields(before[0])[0] {
		n.t.Errorf("mount table = %q, want %q", after, before)
	}
	stats := &csi.NodeGetVolumeStatsRequest{VolumeId: "v", VolumePath: n.target(apiPod())}
	if _, err := n.csi.NodeGetVolumeStats(n.t.Context(), stats); err != nil {
		n.t.Errorf("NodeGetVolumeStats() = %v, want nil", err)
	}
	n.mustUnpublish(apiPod())
	if lines := mountLines(n.t, behind); len(lines) > 0 {
		n.t.Errorf("mounted after unpublish: %q", lines)
	}
	if _, err := os.Lstat(behind); !errors.Is(err, os.ErrNotExist) {
		n.t.Errorf("Lstat(target) after unpublish = %v, want nothing", err)
	}
}

// TestKubeletRootBehindLinks: /var/lib/kubelet is a link on many nodes, and on
// some the pods have a disk of their own.
func TestKubeletRootBehindLinks(t *testing.T) {
	for name, link := range map[string]func(dir, behind string) (root string, err error){
		"root": func(dir, behind string) (string, error) {
			return dir + "/kubelet", os.Symlink(behind, dir+"/kubelet")
		},
		"parent of the root": func(dir, behind string) (string, error) {
			return dir + "/lib/" + filepath.Base(behind), os.Symlink(filepath.Dir(behind), dir+"/lib")
		},
		"pods": func(dir, behind string) (string, error) {
			return dir, os.Symlink(behind+"/pods", dir+"/pods")
		},
		"pods of another name": func(dir, behind string) (string, error) {
			return dir, errors.Join(os.Rename(behind+"/pods", behind+"/of-this-node"), os.Symlink(behind+"/of-this-node", dir+"/pods"),
				os.Symlink(behind+"/of-this-node", behind+"/pods"))
		},
		"link to a link": func(dir, behind string) (string, error) {
			return dir + "/b", errors.Join(os.Symlink(behind, dir+"/a"), os.Symlink("a", dir+"/b"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bothProtections(t, func(t *testing.T, protection func(*setup)) {
				var kept setup
				n := newNode(t, protection, rotatesAtOnce, keep(&kept))
				root, err := link(t.TempDir(), n.root)
				if err != nil {
					t.Fatal(err)
				}
				n.restart(kept, root)
				behind, err := filepath.EvalSymlinks(filepath.Dir(n.target(apiPod())))
				if err != nil || strings.HasPrefix(behind, root+"/") {
					t.Fatalf("the directory of the volume is %q, %v, want it behind a link", behind, err)
				}
				n.wholeLife(kept, behind+"/mount")
			})
		})
	}
}

// TestKubeletRootSpelledDifferently: the flag is an administrator's, the target
// path is kubelet's.
func TestKubeletRootSpelledDifferently(t *testing.T) {
	for name, spell := range map[string]func(root string) string{
		"trailing slash":   func(r string) string { return r + "/" },
		"trailing slashes": func(r string) string { return r + "///" },
		"double slash":     func(r string) string { return strings.Replace(r, "/", "//", 1) },
		"dot":              func(r string) string { return r + "/." },
		"parent":           func(r string) string { return r + "/pods/.." },
	} {
		t.Run(name, func(t *testing.T) {
			var kept setup
			n := newNode(t, rotatesAtOnce, keep(&kept))
			root := n.root
			n.restart(kept, spell(root))
			n.root = root // as kubelet writes it
			n.mustPublish(apiPod())
			n.restart(kept, spell(root))
			n.root = root
			n.clock.advance(2 * refreshInterval)
			n.mustPublish(apiPod())
			if diff := cmp.Diff(newContent(), n.content(apiPod())); diff != "" {
				t.Errorf("content (-want +got):\n%s", diff)
			}
			n.mustUnpublish(apiPod())
			n.expectNothing(apiPod())
		})
	}
}

// TestKubeletRootIsOpenedOnce has the link in front of the kubelet's directory
// lead elsewhere after the start: everything goes on where it was.
func TestKubeletRootIsOpenedOnce(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		var kept setup
		n := newNode(t, protection, rotatesAtOnce, keep(&kept))
		behind, evil, link := n.root, t.TempDir(), filepath.Join(t.TempDir(), "kubelet")
		hardeningtest.VolumeDir(t, evil, apiUID, volume)
		before := hardeningtest.Fingerprint(t, evil)
		if err := os.Symlink(behind, link); err != nil {
			t.Fatal(err)
		}
		n.restart(kept, link)
		n.mustPublish(apiPod())
		if err := errors.Join(os.Remove(link), os.Symlink(evil, link)); err != nil {
			t.Fatal(err)
		}
		n.clock.advance(2 * refreshInterval)
		n.mustPublish(apiPod())
		at := filepath.Join(behind, strings.TrimPrefix(n.target(apiPod()), link))
		if got, err := os.ReadFile(at + "/password"); err != nil || string(got) != newContent()["password"] {
			t.Errorf("content where the link led at first = %q, %v, want it rotated", got, err)
		}
		if mounts, err := n.volumes.Mounts(); err != nil || len(mounts) != 1 {
			t.Errorf("Mounts() = %+v, %v, want the one volume", mounts, err)
		}
		n.mustUnpublish(apiPod())
		if points := hardeningtest.MountsBelow(t, behind); len(points) > 0 {
			t.Errorf("still mounted: %q", points)
		}
		if diff := cmp.Diff(before, hardeningtest.Fingerprint(t, evil)); diff != "" {
			t.Errorf("where the link leads now (-before +after):\n%s", diff)
		}
	})
}
