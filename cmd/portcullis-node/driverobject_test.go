package main_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	storagev1 "k8s.io/api/storage/v1"

	node "github.com/portcullis-csi/portcullis/cmd/portcullis-node"
	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

func csiDriver(change func(*storagev1.CSIDriverSpec)) *storagev1.CSIDriver {
	none := storagev1.NoneFSGroupPolicy
	d := &storagev1.CSIDriver{Spec: storagev1.CSIDriverSpec{
		PodInfoOnMount: new(true), AttachRequired: new(false), FSGroupPolicy: &none, RequiresRepublish: new(true),
		VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecycleEphemeral},
		TokenRequests:        []storagev1.TokenRequest{{Audience: "vault"}}, ServiceAccountTokenInSecrets: new(true),
	}}
	if change != nil {
		change(&d.Spec)
	}
	return d
}

// Readiness says what to do, in one line.
func TestReadinessOfTheDriverObject(t *testing.T) {
	unreachable := &apiserver.UnavailableError{Object: "CSIDriver", Reason: apiserver.Unreachable}
	const setPodInfo = "spec.podInfoOnMount of the CSIDriver object is not true: authors of pods could say who they are; hint: set podInfoOnMount: true"
	for name, test := range map[string]struct {
		object              *storagev1.CSIDriver
		err                 error
		granting, otherwise string
	}{
		"good":    {object: csiDriver(nil)},
		"missing": {err: fmt.Errorf("CSIDriver: %w", kube.ErrNotFound), granting: "the CSIDriver object is not in the cluster; hint: apply the chart's CSIDriver object, with podInfoOnMount: true"},
		"no pod info": {
			object: csiDriver(func(s *storagev1.CSIDriverSpec) { s.PodInfoOnMount = new(false) }), granting: setPodInfo,
		},
		"one field": {
			object:    csiDriver(func(s *storagev1.CSIDriverSpec) { s.RequiresRepublish = nil }),
			otherwise: "spec.requiresRepublish of the CSIDriver object is not true: mounted secrets are neither rotated nor revoked; hint: set requiresRepublish: true",
		},
		"many fields": {
			object: csiDriver(func(s *storagev1.CSIDriverSpec) {
				*s = storagev1.CSIDriverSpec{VolumeLifecycleModes: s.VolumeLifecycleModes}
			}),
			granting:  setPodInfo,
			otherwise: "spec.attachRequired of the CSIDriver object is not false: pods would wait for an attachment that nobody makes; hint: set attachRequired: false when creating the object; then see spec.fsGroupPolicy, spec.requiresRepublish, spec.tokenRequests",
		},
		"no answer": {err: unreachable, granting: unreachable.Error(), otherwise: unreachable.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			granting, otherwise := node.DriverObject(func(context.Context) (*storagev1.CSIDriver, error) { return test.object, test.err })
			for _, check := range []struct {
				name string
				err  error
				want string
			}{{"granting", granting(), test.granting}, {"otherwise", otherwise(), test.otherwise}} {
				if got := fmt.Sprint(check.err); check.want == "" && check.err != nil || check.want != "" && got != check.want {
					t.Errorf("%s() = %q, want %q", check.name, got, check.want)
				}
			}
		})
	}
}

// Whoever asks for readiness, however often, asks the API server once in five
// seconds, and waits two at most.
func TestReadinessDoesNotHammerTheAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reads atomic.Int64
		var hang atomic.Bool
		granting, otherwise := node.DriverObject(func(ctx context.Context) (*storagev1.CSIDriver, error) {
			reads.Add(1)
			if hang.Load() {
				<-ctx.Done()
				return nil, fmt.Errorf("read CSIDriver: %w", ctx.Err())
			}
			return csiDriver(nil), nil
		})
		probe := func(want int64) {
			t.Helper()
			before, began := reads.Load(), time.Now()
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					for _, err := range []error{granting(), otherwise()} {
						if (err != nil) != hang.Load() {
							t.Errorf("check = %v, want an error %t", err, hang.Load())
						}
						if text := "read CSIDriver object from the API server: timeout; hint: check the health of the API server"; err != nil && err.Error() != text {
							t.Errorf("check of an API server that hangs = %q, want %q", err, text)
						}
					}
				})
			}
			wg.Wait()
			if got := reads.Load() - before; got != want {
				t.Errorf("100 checks at once made %d reads, want %d", got, want)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("100 checks at once took %v, want 2 s at most", took)
			}
		}
		probe(1)
		time.Sleep(4 * time.Second)
		probe(0)
		hang.Store(true)
		time.Sleep(time.Second)
		probe(1)
		probe(0) // an answer that is none is one as well
		hang.Store(false)
		time.Sleep(5 * time.Second)
		probe(1)
	})
}
