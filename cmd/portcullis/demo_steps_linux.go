package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// step is one scene: what is shown, why it matters, and the play, whose error
// says what was not as told.
type step struct {
	title string
	why   string
	play  func(context.Context, *stage, *narrator) error
}

func steps() []step {
	return []step{
		{"An allowed mount", "Pod payments/api-0 runs as service account api, to which grant G-payments-db\ngives two secrets. Its fsGroup is 2000.", playAllowed},
		{"The files, read by real processes", "With an fsGroup: owner root, group 2000, mode 0440. Only the group reads.", playReaders},
		{"A provider's mode, clamped", "The provider asked for mode 0644 for the password, the upstream driver's default.\nA volume with an fsGroup has the ceiling 0440.", playClamped},
		{"Denied: nobody granted it", "Pod shop/web-0 names a class with the payments team's password in it.", playNoGrant},
		{"Denied: the pod overrides the class", "Pod payments/sly-0 names an innocent class and asks for another object in its own\nvolumeAttributes, which the upstream driver would pass on to the provider.", playOverride},
		{"A changed secret arrives", "The secret changes at the provider; kubelet calls again, as it does every minute.\nThe same mount gets the new content, swapped whole.", playRotation},
		{"Unmounted, nothing left", "The pod ends. The volume is scrubbed, unmounted and forgotten.", playUnmount},
		{"The audit log, verified", "The plugin stops. Its log is checked offline, with the node's public key alone.", playVerify},
		{"The audit log, tampered with", "A copy of the log in which one word of one event was changed.", playTampered},
	}
}

func playAllowed(ctx context.Context, s *stage, n *narrator) error {
	pod, err := s.kubelet.publish(ctx, "payments", "api-0")
	if err != nil {
		return fmt.Errorf("kubelet was refused: %s", status.Convert(err).Message())
	}
	target := s.kubelet.target(pod)
	options, err := mountOptions(target)
	if err != nil {
		return err
	}
	n.line("mounted: %s", options)
	for _, want := range []string{"ro", "nosuid", "nodev", "noexec"} {
		if !strings.Contains(","+options+",", ","+want+",") {
			return fmt.Errorf("the mount lacks the option %s", want)
		}
	}
	if err := listFiles(target, n); err != nil {
		return err
	}
	if err := s.expectContent(target, "password", "payments/db-password"); err != nil {
		return err
	}
	n.asTold("two files, complete and read-only; their content is what the provider holds")
	return nil
}

func playReaders(ctx context.Context, s *stage, n *narrator) error {
	target, err := s.targetOf(ctx, "payments", "api-0")
	if err != nil {
		return err
	}
	for _, r := range []struct {
		uid, gid uint32
		groups   []uint32
		can      bool
		who      string
	}{
		{1000, 1000, []uint32{2000}, true, "uid 1000 with group 2000 (the pod)"},
		{1001, 1001, nil, false, "uid 1001 without the group"},
	} {
		err := readAs(ctx, target, "password", reader{r.uid, r.gid, r.groups})
		switch {
		case r.can && err != nil:
			return fmt.Errorf("%s cannot read: %w", r.who, err)
		case !r.can && !errors.Is(err, errReaderRefused):
			return errors.Join(fmt.Errorf("%s was not refused", r.who), err)
		case r.can:
			n.asTold("%s reads the file", r.who)
		default:
			n.asTold("%s gets: permission denied", r.who)
		}
	}
	return nil
}

func playClamped(ctx context.Context, s *stage, n *narrator) error {
	target, err := s.targetOf(ctx, "payments", "api-0")
	if err != nil {
		return err
	}
	for _, name := range []string{"password", "user"} {
		info, err := os.Stat(filepath.Join(target, name))
		if err != nil {
			return err
		}
		if mode := info.Mode().Perm(); mode != 0o440 {
			return fmt.Errorf("mode of %s is %04o, want 0440", name, mode)
		}
	}
	clamped, err := s.metric(ctx, "portcullis_file_mode_clamped_total")
	if err != nil {
		return err
	}
	if clamped == "" || clamped == "0" {
		return errors.New("the plugin counts no clamped file")
	}
	n.asTold("every file has mode 0440; the plugin counts %s clamped", clamped)
	return nil
}

func playNoGrant(ctx context.Context, s *stage, n *narrator) error {
	return s.expectDenied(ctx, n, denial{"shop", "web-0", "PR-001"})
}

func playOverride(ctx context.Context, s *stage, n *narrator) error {
	return s.expectDenied(ctx, n, denial{"payments", "sly-0", "PR-010"})
}

type denial struct{ namespace, pod, rule string }

// expectDenied shows what kubelet writes into the pod's event.
func (s *stage) expectDenied(ctx context.Context, n *narrator, d denial) error {
	pod, err := s.kubelet.publish(ctx, d.namespace, d.pod)
	if err == nil {
		return errors.New("kubelet's call succeeded")
	}
	st := status.Convert(err)
	n.line("kubectl describe pod would show:")
	n.line("  MountVolume.SetUp failed for volume %q : rpc error: code = %s desc = %s", volumeName, st.Code(), st.Message())
	if st.Code() != codes.PermissionDenied || !strings.Contains(st.Message(), d.rule) {
		return fmt.Errorf("code %s without rule %s", st.Code(), d.rule)
	}
	if options, err := mountOptions(s.kubelet.target(pod)); err == nil {
		return fmt.Errorf("something is mounted: %s", options)
	}
	n.asTold("refused by rule %s, nothing is mounted, the provider was not asked", d.rule)
	return nil
}

func playRotation(ctx context.Context, s *stage, n *narrator) error {
	target, err := s.targetOf(ctx, "payments", "api-0")
	if err != nil {
		return err
	}
	before, err := mountID(target)
	if err != nil {
		return err
	}
	if err := s.setSecret("payments/db-password"); err != nil {
		return err
	}
	if err := s.awaitContent(ctx, target); err != nil {
		return err
	}
	after, err := mountID(target)
	if err != nil {
		return err
	}
	if before != after {
		return fmt.Errorf("the mount changed from %s to %s", before, after)
	}
	n.asTold("the new value is there, in the same mount (id %s)", after)
	return nil
}

// awaitContent calls as kubelet does until the new value is there.
func (s *stage) awaitContent(ctx context.Context, target string) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		if _, err := s.kubelet.publish(ctx, "payments", "api-0"); err != nil {
			return fmt.Errorf("republish: %s", status.Convert(err).Message())
		}
		err := s.expectContent(target, "password", "payments/db-password")
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func playUnmount(ctx context.Context, s *stage, n *narrator) error {
	pod, err := s.kubelet.pods.Pod(ctx, "payments", "api-0", "")
	if err != nil {
		return err
	}
	for range 2 { // kubelet repeats the call whenever it is not sure
		if err := s.kubelet.unpublish(ctx, pod); err != nil {
			return fmt.Errorf("unpublish: %s", status.Convert(err).Message())
		}
	}
	if _, err := os.Lstat(s.kubelet.target(pod)); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(errors.New("the target is still there"), err)
	}
	left, err := mountsBelow(s.dir)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("mounts are left: %s", strings.Join(left, ", "))
	}
	n.asTold("no mount, no directory; asked a second time, the plugin agrees")
	return nil
}

func (s *stage) targetOf(ctx context.Context, namespace, name string) (string, error) {
	pod, err := s.kubelet.pods.Pod(ctx, namespace, name, "")
	if err != nil {
		return "", err
	}
	return s.kubelet.target(pod), nil
}
