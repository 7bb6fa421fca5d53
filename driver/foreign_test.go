package driver_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"sigs.k8s.io/secrets-store-csi-driver/pkg/util/fileutil"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
)

const nameOfOurs = "tmpfs with the name of ours"

// foreignKinds are mounts that are none of ours. Each gets a directory whose
// content must stay as it is, and the node with a second pod's volume.
func foreignKinds() map[string]func(n *node, precious, at string) error {
	return map[string]func(n *node, precious, at string) error{
		"tmpfs": func(_ *node, _, at string) error { return unix.Mount("foreign", at, "tmpfs", 0, "size=64k") },
		"tmpfs with the name of upstream's": func(_ *node, _, at string) error {
			return unix.Mount("tmpfs", at, "tmpfs", 0, "size=64k")
		},
		nameOfOurs: func(_ *node, _, at string) error {
			return unix.Mount(hardening.Marker, at, "tmpfs", 0, "size=64k")
		},
		"ramfs": func(_ *node, _, at string) error { return unix.Mount("foreign", at, "ramfs", 0, "") },
		"bind":  func(_ *node, precious, at string) error { return unix.Mount(precious, at, "", unix.MS_BIND, "") },
		"overlay": func(_ *node, precious, at string) error {
			dir := filepath.Dir(precious)
			return errors.Join(os.Mkdir(dir+"/upper", 0o755), os.Mkdir(dir+"/work", 0o755),
				unix.Mount("overlay", at, "overlay", 0, "lowerdir="+precious+",upperdir="+dir+"/upper,workdir="+dir+"/work"))
		},
		"another pod's volume": func(n *node, _, at string) error {
			return unix.Mount(n.target(secondPod()), at, "", unix.MS_BIND, "")
		},
		"part of another pod's volume": func(n *node, _, at string) error {
			return unix.Mount(n.target(secondPod())+"/..data/", at, "", unix.MS_BIND, "")
		},
		"several": func(_ *node, precious, at string) error {
			return errors.Join(unix.Mount(precious, at, "", unix.MS_BIND, ""), unix.Mount("foreign", at, "tmpfs", 0, "size=64k"),
				unix.Mount(precious, at, "", unix.MS_BIND, ""))
		},
	}
}

// foreignNode is a node with the volume of a second pod.
func foreignNode(t *testing.T, protection func(*setup)) (n *node, precious string) {
	t.Helper()
	n = newNode(t, protection, func(s *setup) { s.provider.Handler = ownSecrets() })
	n.add(secondPod())
	n.mustPublish(secondPod())
	precious = filepath.Join(t.TempDir(), "precious")
	if err := errors.Join(os.Mkdir(precious, 0o755), os.WriteFile(precious+"/file", []byte("keep"), 0o640)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hardeningtest.UnmountBelow(t, n.root) })
	return n, precious
}

// eventsOf counts the events with these summaries.
func (n *node) eventsOf(want string) int {
	n.t.Helper()
	return strings.Count(", "+summary(n.recorded())+",", ", "+want+",")
}

// waitFor waits for an event that is owed.
func (n *node) waitFor(want string) {
	n.t.Helper()
	for i := 1; n.eventsOf(want) == 0; i++ {
		n.events(i) // fails after its patience
	}
}

func TestForeignMountsOfEveryKind(t *testing.T) {
	for name, mount := range foreignKinds() {
		t.Run(name, func(t *testing.T) {
			bothProtections(t, func(t *testing.T, protection func(*setup)) {
				n, precious := foreignNode(t, protection)
				target, other := n.target(apiPod()), n.content(secondPod())
				before := hardeningtest.Fingerprint(t, precious)
				if err := errors.Join(os.Mkdir(target, 0o750), mount(n, precious, target)); err != nil {
					t.Fatal(err)
				}
				mounts := mountLines(t, target)
				for range 2 {
					expectStatus(t, n.publish(apiPod()), codes.Unavailable, "not ours", "; hint: ")
				}
				if diff := cmp.Diff(mounts, mountLines(t, target)); diff != "" {
					t.Errorf("mount table (-before +after):\n%s", diff)
				}
				n.waitFor("PC9003E  ForeignMountKept")
				if _, err := n.csi.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: "v", VolumePath: target}); err == nil {
					t.Error("NodeGetVolumeStats() = nil, want NotFound")
				}
				if calls := len(n.provider.Calls()); calls != 1 {
					t.Errorf("provider calls = %d, want that of the second pod", calls)
				}
				n.mustUnpublish(apiPod())
				if name == nameOfOurs { // it could be this pod's, whose container tampered with it
					n.waitFor("PC2003I")
				} else {
					n.waitFor("PC9003E  ForeignMountUnmounted")
				}
				if lines := mountLines(t, target); len(lines) > 0 {
					t.Errorf("mounted after unpublish: %q", lines)
				}
				n.expectKept(precious, before, other)
			})
		})
	}
}

// expectKept checks what the driver had no business with.
func (n *node) expectKept(precious string, before, other map[string]string) {
	n.t.Helper()
	if diff := cmp.Diff(before, hardeningtest.Fingerprint(n.t, precious)); diff != "" {
		n.t.Errorf("foreign content (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(other, n.content(secondPod())); diff != "" {
		n.t.Errorf("volume of the other pod (-before +after):\n%s", diff)
	}
	n.mustPublish(secondPod())
}

// TestForeignMountsOverAndInsideAVolume: they come off at the next republish,
// and with the unpublish.
func TestForeignMountsOverAndInsideAVolume(t *testing.T) {
	for name, mount := range foreignKinds() {
		for _, inside := range []string{"", "..data"} {
			t.Run(name+"/"+inside, func(t *testing.T) {
				bothProtections(t, func(t *testing.T, protection func(*setup)) {
					n, precious := foreignNode(t, protection)
					n.mustPublish(apiPod())
					own, other, line := n.content(apiPod()), n.content(secondPod()), mountLines(t, n.target(apiPod()))
					before := hardeningtest.Fingerprint(t, precious)
					at := filepath.Join(n.target(apiPod()), inside)
					if err := mount(n, precious, at); err != nil {
						t.Fatal(err)
					}
					n.mustPublish(apiPod())
					if diff := cmp.Diff(own, n.content(apiPod())); diff != "" {
						t.Errorf("content after a republish (-want +got):\n%s", diff)
					}
					if diff := cmp.Diff(line, mountLines(t, n.target(apiPod()))); diff != "" {
						t.Errorf("mount table after a republish (-want +got):\n%s", diff)
					}
					n.waitFor("PC9001E  VolumeCovered")
					n.removeOverlay(precious)
					if err := mount(n, precious, at); err != nil {
						t.Fatal(err)
					}
					n.clock.advance(2 * refreshInterval)
					n.mustPublish(apiPod())
					if got := n.content(apiPod())["password"]; !hasOwn(apiPod(), got) || got == own["password"] {
						t.Errorf("content after a rotation = %q, want another one of its own", got)
					}
					n.removeOverlay(precious)
					if err := mount(n, precious, at); err != nil {
						t.Fatal(err)
					}
					n.mustUnpublish(apiPod())
					n.expectKept(precious, before, other)
					if points := hardeningtest.MountsBelow(t, n.root); !slices.Equal(points, []string{n.target(secondPod())}) {
						t.Errorf("mounted at the end: %q, want the other pod's volume", points)
					}
				})
			})
		}
	}
}

// removeOverlay makes room for the next.
func (n *node) removeOverlay(precious string) {
	for _, name := range []string{"/upper", "/work"} {
		if err := os.RemoveAll(filepath.Dir(precious) + name); err != nil {
			n.t.Fatal(err)
		}
	}
}

// TestCoverThatHidesNothingOfOurs: the table shows a volume with our marker
// under a cover. What comes to light is not this pod's, and is left alone.
func TestCoverThatHidesNothingOfOurs(t *testing.T) {
	n, _ := foreignNode(t, func(*setup) {})
	target, other := n.target(apiPod()), n.content(secondPod())
	for _, err := range []error{
		os.Mkdir(target, 0o750), unix.Mount(n.target(secondPod()), target, "", unix.MS_BIND, ""), unix.Mount("cover", target, "tmpfs", 0, ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		expectStatus(t, n.publish(apiPod()), codes.Unavailable, "not ours", "; hint: ")
	}
	n.waitFor("PC9003E  ForeignMountKept")
	n.mustUnpublish(apiPod())
	if diff := cmp.Diff(other, n.content(secondPod())); diff != "" {
		t.Errorf("volume of the other pod (-before +after):\n%s", diff)
	}
}

// legacyVolume is what the upstream driver leaves at a target, by its own code.
func (n *node) legacyVolume(p pod, files ...*v1alpha1.File) {
	n.t.Helper()
	if len(files) == 0 {
		files = []*v1alpha1.File{
			{Path: "password", Mode: 0o644, Contents: []byte("legacy")}, {Path: "dir/sub/user", Mode: 0o400, Contents: []byte("legacy user")},
		}
	}
	if err := os.MkdirAll(n.target(p), 0o750); err != nil {
		n.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", n.target(p), "tmpfs", 0, ""); err != nil {
		n.t.Fatal(err)
	}
	if err := fileutil.WritePayloads(n.target(p), files); err != nil {
		n.t.Fatal(err)
	}
}

// TestP11LegacyVolumeIsNeverWritten takes a volume of the upstream driver
// through all that happens to a mounted volume.
func TestP11LegacyVolumeIsNeverWritten(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"as upstream leaves it": func(string) error { return nil },
		"group of the pod": func(d string) error {
			return errors.Join(os.Chown(d, 0, 2000), os.Chmod(d, 0o2775|os.ModeSetgid), os.Chown(d+"/..data/password", 0, 2000), os.Chmod(d+"/..data/password", 0o660))
		},
		"odd modes": func(d string) error {
			return errors.Join(os.Chmod(d, 0o1777|os.ModeSticky), os.Chmod(d+"/..data/password", 0), os.Chmod(d+"/..data/", 0o700), os.Chown(d+"/..data/password", 1000, 1000))
		},
		"remounted read-only": func(d string) error { return unix.Mount("", d, "", unix.MS_REMOUNT|unix.MS_RDONLY, "") },
		"rotated twice": func(d string) error {
			return errors.Join(
				fileutil.WritePayloads(d, []*v1alpha1.File{{Path: "password", Mode: 0o644, Contents: []byte("second")}}),
				fileutil.WritePayloads(d, []*v1alpha1.File{{Path: "password", Mode: 0o600, Contents: []byte("third")}, {Path: "new", Mode: 0o644}}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bothProtections(t, func(t *testing.T, protection func(*setup)) {
				var kept setup
				n := newNode(t, protection, keep(&kept))
				n.legacyVolume(apiPod())
				target := n.target(apiPod())
				if err := spoil(target); err != nil {
					t.Fatal(err)
				}
				before, line := hardeningtest.Fingerprint(t, target), mountLines(t, target)
				for i := range 4 {
					if i == 2 {
						n.restart(kept, n.root)
					}
					n.clock.advance(2 * refreshInterval)
					n.mustPublish(apiPod())
					if got := n.gauge("portcullis_legacy_volumes"); got != 1 {
						t.Errorf("portcullis_legacy_volumes = %d, want 1", got)
					}
				}
				if diff := cmp.Diff(before, hardeningtest.Fingerprint(t, target)); diff != "" {
					t.Errorf("legacy volume (-before +after):\n%s", diff)
				}
				if diff := cmp.Diff(line, mountLines(t, target)); diff != "" {
					t.Errorf("mount table (-before +after):\n%s", diff)
				}
				if calls, used := len(n.provider.Calls()), n.gauge("portcullis_volume_budget_used_bytes"); calls != 0 || used != 0 {
					t.Errorf("provider calls = %d, budget in use = %d, want 0 and 0", calls, used)
				}
				n.restart(kept, n.root) // so that nothing is known of it when it goes
				n.mustUnpublish(apiPod())
				if got := n.gauge("portcullis_legacy_volumes"); got != 0 {
					t.Errorf("portcullis_legacy_volumes after unpublish = %d, want 0", got)
				}
				n.expectNothing(apiPod())
				n.mustPublish(apiPod())
				// No alarm about what an upgrade leaves behind.
				n.expectEvents("PC2001I intent", "PC2001I complete")
			})
		})
	}
}

func TestLegacyVolumeIsScrubbedAtTheEnd(t *testing.T) {
	n := newNode(t)
	n.legacyVolume(apiPod())
	view := n.writable(apiPod())
	n.mustUnpublish(apiPod())
	if entries, err := os.ReadDir(view); err != nil || len(entries) > 0 {
		t.Errorf("ReadDir(copy of the mount) = %v, %v, want nothing", entries, err)
	}
}

// TestNearlyLegacyIsForeign: what upstream's code did not leave behind is not
// given to a pod, nor what came where this driver had mounted a volume.
func TestNearlyLegacyIsForeign(t *testing.T) {
	for name, spoil := range map[string]func(n *node, dir string) error{
		"without ..data": func(_ *node, d string) error { return os.Remove(d + "/..data") },
		"a regular file": func(_ *node, d string) error { return os.WriteFile(d+"/extra", nil, 0o644) },
		"..data leads out": func(_ *node, d string) error {
			return errors.Join(os.Remove(d+"/..data"), os.Symlink("/etc", d+"/..data"))
		},
		"a link that leads out": func(_ *node, d string) error {
			return os.Symlink("/etc/shadow", d+"/extra")
		},
		"covered": func(_ *node, d string) error { return unix.Mount("tmpfs", d, "tmpfs", 0, "") },
		"a record in volumes.db": func(n *node, _ string) error {
			n.records.Put(driver.Record{PodUID: apiUID, Volume: volume})
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.legacyVolume(apiPod())
			target := n.target(apiPod())
			if err := spoil(n, target); err != nil {
				t.Fatal(err)
			}
			before := hardeningtest.Fingerprint(t, target)
			expectStatus(t, n.publish(apiPod()), codes.Unavailable, "not ours", "; hint: ")
			if diff := cmp.Diff(before, hardeningtest.Fingerprint(t, target)); diff != "" {
				t.Errorf("volume (-before +after):\n%s", diff)
			}
			if got := n.gauge("portcullis_legacy_volumes"); got != 0 {
				t.Errorf("portcullis_legacy_volumes = %d, want 0", got)
			}
			n.waitFor("PC9003E  ForeignMountKept")
			n.mustUnpublish(apiPod())
			n.expectNothing(apiPod())
		})
	}
}

// moveAway renames a directory on the way to a mounted volume, from where that
// is not busy.
func (n *node) moveAway(place string) {
	n.t.Helper()
	moved := make(chan error, 1)
	attack := hardeningtest.StartAttack(n.t, hardeningtest.Container(n.root), func(i int) {
		if i == 0 {
			moved <- os.Rename(place, place+".away")
		}
	})
	if err := <-moved; err != nil {
		n.t.Fatal(err)
	}
	attack.Stop()
}

// TestP8AVolumeThatWasMovedIsUnpublished: kubelet is told that the volume is
// gone, so it must be, wherever it went.
func TestP8AVolumeThatWasMovedIsUnpublished(t *testing.T) {
	for level, name := range hardeningtest.Levels(apiUID, volume) {
		t.Run(name, func(t *testing.T) {
			bothProtections(t, func(t *testing.T, protection func(*setup)) {
				var kept setup
				n := newNode(t, protection, keep(&kept))
				n.add(secondPod())
				n.mustPublish(secondPod())
				n.mustPublish(apiPod())
				view := n.writable(apiPod())
				place := hardeningtest.NewPath(t, n.target(apiPod()), n.target(secondPod()), level).Place
				n.moveAway(place)
				if name != "mount" { // a mounted volume whose directory is gone gets no final code
					expectStatus(t, n.publish(apiPod()), codes.Unavailable, "the directory of a mounted volume is gone", "; hint: ")
				}
				n.restart(kept, n.root) // nothing but the volume itself says whose it is
				n.mustUnpublish(apiPod())
				if entries, err := os.ReadDir(view); err != nil || len(entries) > 0 {
					t.Errorf("ReadDir(copy of the mount) = %v, %v, want it scrubbed", entries, err)
				}
				if points := hardeningtest.MountsBelow(t, n.root); !slices.Equal(points, []string{n.target(secondPod())}) {
					t.Errorf("still mounted: %q, want the other pod's volume alone", points)
				}
				n.waitFor("PC2003I")
				if diff := cmp.Diff(secretFiles(), n.content(secondPod())); diff != "" {
					t.Errorf("volume of the other pod (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestUnpublishThatCannotReachTheTargetSaysSo: kubelet shows nobody that an
// unmount failed.
func TestUnpublishThatCannotReachTheTargetSaysSo(t *testing.T) {
	n := newNode(t)
	n.mustPublish(apiPod())
	place := filepath.Join(n.root, "pods", apiUID)
	n.moveAway(place)
	if err := os.Symlink(place+".away", place); err != nil {
		t.Fatal(err)
	}
	expectStatus(t, n.unpublish(apiPod()), codes.Unavailable, "a link or a file", "; hint: ")
	n.waitFor("PC2003E  UnmountFailed")
	if err := errors.Join(os.Remove(place), os.Rename(place+".away", place)); err != nil {
		t.Fatal(err)
	}
	n.mustUnpublish(apiPod())
	n.expectNothing(apiPod())
}

// TestMountsInsideThePlainDirectoryComeOff: somebody mounts in the directory of
// a pod whose volume never came.
func TestMountsInsideThePlainDirectoryComeOff(t *testing.T) {
	n := newNode(t, func(s *setup) { s.provider.Handler = providertest.Files(secretFiles()) })
	dir := n.target(apiPod()) + "/dir"
	mountAt(t, dir, "foreign")
	expectStatus(t, n.publish(apiPod()), codes.Unavailable, "; hint: ")
	n.mustUnpublish(apiPod())
	if points := hardeningtest.MountsBelow(t, n.root); len(points) > 0 {
		t.Errorf("still mounted: %q", points)
	}
	n.mustPublish(apiPod())
}
