//go:build integration

package integration_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/portcullis-csi/portcullis/test/plugintest"
)

var errNotYet = errors.New("not yet")

// TestP8NothingIsGrantedWithoutTheAPIServer: while it is down nothing new is
// granted, what is mounted stays and republishes answer OK (P9), unmounting
// works; when it is back everything does, by itself.
func TestP8NothingIsGrantedWithoutTheAPIServer(t *testing.T) {
	w := newWorld(t, "--enable-secret-rotation", "--rotation-poll-interval=1s")
	mounted, waiting := w.cluster.CreatePod(t, pod("mounted")), w.cluster.CreatePod(t, pod("waiting"))
	held, wanted := w.request(mounted, volume), w.request(waiting, volume)
	leaving := w.request(w.cluster.CreatePod(t, pod("leaving")), volume)
	w.mounts(held, "db/password", "one")
	w.mounts(leaving, "db/password", "one")

	w.cluster.StopAPIServer()
	w.content.Store("two")
	// What was read shortly before may still be used: that is seconds.
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := w.plugin.Publish(wanted)
		if status.Code(err) == codes.Unavailable {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("NodePublishVolume() while the API server is down = %v, want Unavailable", err)
		}
		if err := w.plugin.Unpublish(wanted.GetVolumeId(), wanted.GetTargetPath()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	w.refused(wanted, codes.Unavailable, "cannot be read")
	w.readies("[!] API server: since ")
	before := reads(held, "db/password")
	for range 3 {
		time.Sleep(1100 * time.Millisecond) // it is due each time
		if err := w.plugin.Publish(held); err != nil {
			t.Errorf("republish while the API server is down = %v, want OK", err)
		}
	}
	if got := reads(held, "db/password"); got != before || got == "" {
		t.Errorf("the mounted file says %q, want %q as before the outage", got, before)
	}
	if err := w.plugin.Unpublish(leaving.GetVolumeId(), leaving.GetTargetPath()); err != nil {
		t.Errorf("NodeUnpublishVolume() while the API server is down = %v, want nil", err)
	}

	w.cluster.Restart(t)
	plugintest.Eventually(t, "granting goes on when the API server is back", func() error { return w.plugin.Publish(wanted) })
	w.readies("[+] API server\n")
	plugintest.Eventually(t, "rotation goes on when the API server is back", func() error {
		if err := w.plugin.Publish(held); err != nil {
			return err
		}
		if got := reads(held, "db/password"); got != "two" {
			return fmt.Errorf("file says %q", got)
		}
		return nil
	})
}

// TestAnswersThatAreNoEvidence: an API server that has too much to do, or is
// broken, denies nobody and takes nothing away. What answers so is a proxy before
// the real one: nothing makes that answer 429 to every request.
func TestAnswersThatAreNoEvidence(t *testing.T) {
	w := newWorld(t, "--enable-secret-rotation", "--rotation-poll-interval=1s")
	proxy := w.throughProxy()
	held := w.request(w.cluster.CreatePod(t, pod("mounted")), volume)
	w.mounts(held, "db/password", "one")
	for _, code := range []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusGatewayTimeout} {
		t.Run(http.StatusText(code), func(t *testing.T) {
			w := w.in(t)
			wanted := w.request(w.cluster.CreatePod(t, pod(fmt.Sprintf("waiting-%d", code))), volume)
			proxy.code.Store(int64(code))
			time.Sleep(2100 * time.Millisecond) // what was read before is not shared any more
			before := proxy.refused.Load()
			w.refused(wanted, codes.Unavailable, "cannot be read")
			if n := proxy.refused.Load() - before; n == 0 || n > 10 {
				t.Errorf("a publish made %d requests that were refused, want a few: kubelet tries again, not the plugin", n)
			}
			for range 2 {
				time.Sleep(1100 * time.Millisecond) // it is due
				if err := w.plugin.Publish(held); err != nil || reads(held, "db/password") != "one" {
					t.Errorf("republish = %v, file says %q, want OK and the content", err, reads(held, "db/password"))
				}
			}
			proxy.code.Store(0)
			plugintest.Eventually(t, "granting goes on", func() error { return w.plugin.Publish(wanted) })
		})
	}
}

// TestAuthenticationFailuresAreErrors: a plugin that may read nothing, or whose
// token is worth nothing, denies nobody.
func TestAuthenticationFailuresAreErrors(t *testing.T) {
	w := newWorld(t, "--enable-secret-rotation", "--rotation-poll-interval=1s")
	held := w.request(w.cluster.CreatePod(t, pod("mounted")), volume)
	w.mounts(held, "db/password", "one")
	// The token of a service account that is made anew is a stranger's: 401.
	if err := w.cluster.Client.CoreV1().ServiceAccounts("kube-system").Delete(t.Context(), "secrets-store-csi-driver", deleteNow()); err != nil {
		t.Fatal(err)
	}
	wanted := w.request(w.cluster.CreatePod(t, pod("waiting")), volume)
	plugintest.Eventually(t, "a plugin without an account grants nothing", func() error {
		err := w.plugin.Publish(wanted)
		if status.Code(err) == codes.Unavailable {
			return nil
		}
		if unmount := w.plugin.Unpublish(wanted.GetVolumeId(), wanted.GetTargetPath()); unmount != nil {
			return unmount
		}
		return fmt.Errorf("publish answered %w, want Unavailable", errors.Join(err, errNotYet))
	})
	for range 3 {
		time.Sleep(1100 * time.Millisecond)
		if err := w.plugin.Publish(held); err != nil || reads(held, "db/password") != "one" {
			t.Errorf("republish = %v, file says %q, want OK and the content", err, reads(held, "db/password"))
		}
	}
}
