package driver_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

// plainView is the target of a pod as a process sees it whose mount namespace
// lacks our volume, such as a provider's that has kubelet's directory without
// mount propagation: the plain directory on the node's disk.
func (n *node) plainView(p pod) string {
	n.t.Helper()
	dir := n.t.TempDir()
	if err := unix.Mount(filepath.Dir(n.target(p)), dir, "", unix.MS_BIND, ""); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return filepath.Join(dir, "mount")
}

// after does something and answers then: what the provider wrote is there
// before its reply.
func after(t *testing.T, do func(r *v1alpha1.MountRequest) error, answer providertest.Handler) providertest.Handler {
	return func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
		if err := do(r); err != nil {
			t.Errorf("the provider could not do it: %v", err)
		}
		return answer(ctx, r)
	}
}

func writing(path string) error { return os.WriteFile(path, []byte(spill), 0o644) }

// TestP5AProviderThatWritesToTargetPathFails does what the AWS provider does by
// default: it writes to target_path and returns versions only.
func TestP5AProviderThatWritesToTargetPathFails(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		var s script
		n := newNode(t, protection, s.follow)
		tried := 0
		itself := func(ctx context.Context, r *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
			tried++
			for _, path := range []string{filepath.Join(r.GetTargetPath(), "password"), r.GetTargetPath()} {
				if err := writing(path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("WriteFile(%q) = %v, want %v", path, err, os.ErrNotExist)
				}
			}
			reply := providertest.Response(map[string]string{"password": "", "user": ""})
			reply.Files = nil
			return reply, nil
		}
		s.set(apiPod(), itself)
		err := n.publish(apiPod())
		expectStatus(t, err, codes.Unavailable, "the reply holds no files", hintWritesAWS)
		n.expectNothing(apiPod())
		n.checkSpill(err)
		// And on a rotation, as after a change of the provider's flags.
		s.set(apiPod(), providertest.Files(secretFiles()))
		n.mustPublish(apiPod())
		before := n.look(apiPod())
		s.set(apiPod(), itself)
		n.clock.advance(2 * refreshInterval)
		n.mustPublish(apiPod())
		n.expectSame(apiPod(), before)
		n.checkSpill(nil)
		if tried != 2 {
			t.Errorf("the provider tried %d times, want 2", tried)
		}
	})
}

// TestP5WhatAProviderWritesBeneathAVolumeIsScrubbed: it guesses the real path,
// and the volume that is mounted there hides what it wrote.
func TestP5WhatAProviderWritesBeneathAVolumeIsScrubbed(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		for name, answer := range map[string]providertest.Handler{
			"and returns files":       providertest.Files(newContent()),
			"and returns no files":    providertest.Reply(&v1alpha1.MountResponse{ObjectVersion: []*v1alpha1.ObjectVersion{{Id: "a"}}}),
			"and returns an error":    providertest.Fail(codes.Internal, spill),
			"and returns other files": spoilt(func(r *v1alpha1.MountResponse) { r.Files = r.Files[1:] }),
		} {
			t.Run(name, func(t *testing.T) {
				var s script
				n := newNode(t, protection, s.follow)
				n.mustPublish(apiPod())
				before, plain, open := n.look(apiPod()), n.plainView(apiPod()), descriptors(t)
				s.set(apiPod(), after(t, func(*v1alpha1.MountRequest) error {
					return errors.Join(os.Mkdir(plain+"/d", 0o700), writing(plain+"/password"), writing(plain+"/d/user"))
				}, answer))
				n.clock.advance(2 * refreshInterval)
				n.mustPublish(apiPod())
				n.expectSame(apiPod(), before)
				if left, err := os.ReadDir(plain); err != nil || len(left) > 0 {
					t.Errorf("beneath the volume: %v, %v, want nothing", left, err)
				}
				n.expectEvents("PC2001I intent", "PC2001I complete", "PC2002I", "PC9001E  ProviderWroteTarget", "PC2002E complete ProviderWroteTarget")
				n.checkSpill(nil)
				// A provider that was put right is believed again.
				s.set(apiPod(), providertest.Files(newContent()))
				n.clock.advance(2 * refreshInterval)
				n.mustPublish(apiPod())
				if diff := cmp.Diff(newContent(), n.content(apiPod())); diff != "" {
					t.Errorf("content after the next rotation (-want +got):\n%s", diff)
				}
				n.mustUnpublish(apiPod())
				n.expectNoLeak(open)
			})
		}
	})
}

// TestP5WhatWasWrittenBeneathIsFoundAtTheEnd: a provider may write at any time.
func TestP5WhatWasWrittenBeneathIsFoundAtTheEnd(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		n := newNode(t, protection)
		n.mustPublish(apiPod())
		plain := n.plainView(apiPod())
		if err := writing(plain + "/password"); err != nil {
			t.Fatal(err)
		}
		n.mustUnpublish(apiPod())
		n.expectNothing(apiPod())
		if _, err := os.Lstat(plain); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Lstat(%s) = %v, want nothing there", plain, err)
		}
		n.checkSpill(nil)
		own := n.podEvents(apiPod(), 4)
		if got := summary(own[2:]); got != "PC9001E  ProviderWroteTarget, PC2003I" && got != "PC2003I, PC9001E  ProviderWroteTarget" {
			t.Errorf("events = %s, want an integrity failure beside the unmount", got)
		}
	})
}

// TestP5AProviderThatPutsSomethingInPlaceOfTheTarget: before the volume is
// there, the place is free for whoever guesses it.
func TestP5AProviderThatPutsSomethingInPlaceOfTheTarget(t *testing.T) {
	for name, c := range map[string]struct {
		put    func(t *testing.T, target string) error
		says   string
		events []string
	}{
		"a file": {func(_ *testing.T, target string) error { return writing(target) },
			"wrote into the target", []string{"PC9001E  ProviderWroteTarget", "PC2001E complete ProviderWroteTarget"}},
		"a link to another place": {func(t *testing.T, target string) error { return os.Symlink(t.TempDir(), target) },
			"is a link or a file", []string{"PC2001E complete VolumeFailed"}},
		"a file that somebody else has as well": {func(t *testing.T, target string) error {
			own := filepath.Join(filepath.Dir(target), "own")
			return errors.Join(os.WriteFile(own, []byte("keep"), 0o600), os.Link(own, target))
		}, "wrote into the target", []string{"PC9001E  ProviderWroteTarget", "PC2001E complete ProviderWroteTarget"}},
		"a mount": {func(t *testing.T, target string) error {
			mountAt(t, target, "somebody")
			return writing(target + "/password")
		}, "not ours is mounted", []string{"PC9003E  ForeignMountKept", "PC2001E complete ForeignMountKept"}},
	} {
		t.Run(name, func(t *testing.T) {
			bothProtections(t, func(t *testing.T, protection func(*setup)) {
				var s script
				n := newNode(t, protection, s.follow)
				target := n.target(apiPod())
				s.set(apiPod(), after(t, func(*v1alpha1.MountRequest) error { return c.put(t, target) }, providertest.Files(secretFiles())))
				err := n.publish(apiPod())
				expectStatus(t, err, codes.Unavailable, c.says, "; hint: ")
				n.expectEvents(append([]string{"PC2001I intent"}, c.events...)...)
				if name != "a mount" {
					n.expectNothing(apiPod())
				}
				// A mount of others stays until the pod goes (P9 of a republish
				// that meets it), and what is in it is theirs.
				n.mustUnpublish(apiPod())
				n.expectNothing(apiPod())
				n.checkSpill(err)
				s.set(apiPod(), nil)
				n.mustPublish(apiPod())
				if own, err := os.ReadFile(filepath.Join(filepath.Dir(target), "own")); err == nil && string(own) != "keep" {
					t.Errorf("a file with a second name holds %q, want it left alone", own)
				}
			})
		})
	}
}

// TestP9AProviderThatMountsOverAVolume: the pod keeps what it has, and the
// next call finds and removes the cover.
func TestP9AProviderThatMountsOverAVolume(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		var s script
		n := newNode(t, protection, s.follow)
		n.mustPublish(apiPod())
		target := n.target(apiPod())
		pods := n.t.TempDir() // the container's view of the volume
		if err := unix.Mount(target, pods, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(pods, unix.MNT_DETACH) })
		s.set(apiPod(), after(t, func(*v1alpha1.MountRequest) error {
			mountAt(t, target, "cover")
			return writing(target + "/password")
		}, providertest.Files(newContent())))
		n.clock.advance(2 * refreshInterval)
		n.mustPublish(apiPod())
		if password, err := os.ReadFile(filepath.Join(pods, "password")); err != nil || string(password) != newContent()["password"] {
			t.Errorf("the pod reads %q, %v, want the value that was granted", password, err)
		}
		s.set(apiPod(), providertest.Files(newContent()))
		n.clock.advance(2 * refreshInterval)
		n.mustPublish(apiPod())
		for _, dir := range []string{target, pods} {
			if password, err := os.ReadFile(filepath.Join(dir, "password")); err != nil || string(password) != newContent()["password"] {
				t.Errorf("after the next call %q, %v, want the new value", password, err)
			}
		}
		if lines := mountLines(t, target); len(lines) != 1 {
			t.Errorf("mount table = %q, want the volume alone", lines)
		}
		n.expectEvents("PC2001I intent", "PC2001I complete", "PC2002I", "PC2002I complete", "PC9001E  VolumeCovered")
	})
}

// TestATargetThatIsNoDirectoryIsSaidToBeNone: something was put there before
// the first call.
func TestATargetThatIsNoDirectoryIsSaidToBeNone(t *testing.T) {
	for name, put := range map[string]func(target string) error{
		"file":  writing,
		"link":  func(target string) error { return os.Symlink("/etc", target) },
		"FIFO":  func(target string) error { return unix.Mkfifo(target, 0o600) },
		"other": func(target string) error { return unix.Mknod(target, unix.S_IFSOCK|0o600, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			if err := put(n.target(apiPod())); err != nil {
				t.Fatal(err)
			}
			expectStatus(t, n.publish(apiPod()), codes.Unavailable, "the target or a directory above it is a link or a file", "; hint: ", "delete the pod")
			if calls := len(n.provider.Calls()); calls != 0 {
				t.Errorf("provider calls = %d, want none", calls)
			}
			n.mustUnpublish(apiPod())
			n.mustPublish(apiPod())
		})
	}
}
