package podstatus_test

import (
	"errors"
	nethttp "net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

type (
	http  = nethttp.Request
	fault = apierrors.StatusError
)

func resource() schema.GroupResource {
	return schema.GroupResource{Group: "secrets-store.csi.x-k8s.io", Resource: statuses}
}

func forbidden() *fault { return apierrors.NewForbidden(resource(), "", errors.New("no such role")) }

func unavailable() *fault { return apierrors.NewServiceUnavailable("starting") }

// only answers requests of one method whose path ends so.
func only(method, suffix string, answer *fault) func(*http) *fault {
	return func(r *http) *fault {
		if r.Method == method && strings.HasSuffix(r.URL.Path, suffix) {
			return answer
		}
		return nil
	}
}

func terminating() *fault {
	err := apierrors.NewForbidden(resource(), name, errors.New("unable to create new content in namespace payments because it is being terminated"))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: corev1.NamespaceTerminatingCause, Field: "metadata.namespace"})
	return err
}

// notInstalled is the answer of an API server that does not know the resource.
func notInstalled() *fault {
	return &fault{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: nethttp.StatusNotFound, Reason: metav1.StatusReasonNotFound, Message: "404 page not found"}}
}

func TestTroubleThatPassesIsTriedAgain(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer *fault
	}{
		{"forbidden", forbidden()},
		{"unauthorized", apierrors.NewUnauthorized("expired")},
		{"api-server-error", unavailable()},
		{"api-server-error", apierrors.NewInternalError(errors.New("etcd"))},
		{"throttled", apierrors.NewTooManyRequests("slow down", 0)},
		{"crd-not-installed", notInstalled()},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := running(t)
			w.server.Break(only("POST", statuses, test.answer))
			w.Set(status("secrets", objects("password", "7")...))
			w.server.Quiet(6, func() bool { return w.Pending() == 1 })
			if n := w.log.count("not written, mounting goes on"); n != 1 || w.log.count("trouble="+test.name) != 1 {
				t.Errorf("%d lines for %d tries, want 1 that says %s", n, w.Requeues("payments", name), test.name)
			}
			w.server.Break(nil)
			w.server.Quiet(7, w.written)
			if got, want := w.versions(), "password=7"; got != want {
				t.Errorf("objects = %q, want %q", got, want)
			}
			if n := w.log.count("not held up any more"); n != 1 {
				t.Errorf("%d lines about the end of it, want 1", n)
			}
			if n := w.Requeues("payments", name); n != 0 {
				t.Errorf("requeues = %d after a success, want 0", n)
			}
		})
	}
}

func TestGoneNamespaceIsDropped(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer *fault
	}{
		{"terminating", terminating()},
		{"gone", apierrors.NewNotFound(corev1.Resource("namespaces"), "payments")},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := running(t)
			w.server.Break(only("POST", statuses, test.answer))
			w.Set(status("secrets", objects("password", "7")...))
			w.expect(gotten, created)
			if n := w.Held(); n != 0 {
				t.Errorf("the writer holds %d things of a namespace that is gone, want none", n)
			}
			w.Forget(uid, "secrets")
		})
	}
}

// An admission policy answers as validation does, and may be mended: what is
// refused is tried again, but seldom.
func TestRefusedObjectIsTriedAgainSeldom(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer *fault
	}{
		{"forbidden", forbidden()},
		{"object-refused", apierrors.NewInvalid(schema.GroupKind{Kind: "X"}, name, nil)},
		{"object-refused", apierrors.NewBadRequest("admission webhook denied the request without explanation")},
		{"object-refused", apierrors.NewRequestEntityTooLargeError("limit is 3145728")},
		{"crd-not-installed", notInstalled()},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := running(t)
			w.server.Break(only("POST", statuses, test.answer))
			begin := time.Now()
			w.Set(status("secrets", objects("password", "7")...))
			w.server.Quiet(5, func() bool { return w.Pending() == 1 })
			if took := time.Since(begin); took < 10*(1+2+4)*time.Millisecond {
				t.Errorf("four tries within %v, want ten times the usual wait between them", took)
			}
			if n := w.log.count("trouble=" + test.name); n != 1 {
				t.Errorf("%d lines that say %s, want 1", n, test.name)
			}
			w.server.Break(nil)
			w.server.Quiet(6, w.written)
			if got, want := w.versions(), "password=7"; got != want {
				t.Errorf("objects = %q, want %q", got, want)
			}
		})
	}
}

// A list may be the one thing that an API server cannot answer in time.
func TestListThatNeverWorksDoesNotKeepFromWriting(t *testing.T) {
	w := newWorld(t)
	w.server.Break(only("GET", "/"+statuses, unavailable()))
	w.Set(status("secrets", objects("password", "7")...))
	w.run()
	w.server.Quiet(11, w.written)
	if got, want := w.versions(), "password=7"; got != want {
		t.Errorf("objects = %q, want %q", got, want)
	}
}

func TestRetryAfterIsRespected(t *testing.T) {
	w := running(t)
	w.server.Break(only("POST", statuses, apierrors.NewTooManyRequests("slow down", 1)))
	begin := time.Now()
	w.Set(status("secrets", objects("password", "7")...))
	w.server.Quiet(2, func() bool { return true })
	w.server.Break(nil)
	for i := range 50 { // what changes meanwhile does not hurry
		w.Set(status("secrets", objects("password", string(rune('A'+i)))...))
	}
	w.server.Quiet(3, w.written)
	if took := time.Since(begin); took < time.Second || len(w.server.Requests()) != 3 {
		t.Errorf("written after %v and %q, want one more try, a second later", took, w.server.Requests())
	}
}

// Down for long: what waits is bounded by what is mounted, and is written in
// the end.
func TestLongOutage(t *testing.T) {
	const pods = 50
	w := running(t)
	w.server.Break(func(*http) *fault { return unavailable() })
	for version := range 20 {
		for i := range pods {
			s := status("secrets", objects("password", string(rune('a'+version)))...)
			s.Pod, s.PodUID = "api-"+string(rune('a'+i/26))+string(rune('a'+i%26)), uid[:34]+string(rune('a'+i/26))+string(rune('a'+i%26))
			w.Set(s)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if n := w.Pending(); n != pods {
		t.Errorf("pending = %d, want one a pod, %d", n, pods)
	}
	if n := w.log.count("not written, mounting goes on"); n != 1 {
		t.Errorf("%d lines about the outage, want 1", n)
	}
	w.server.Break(nil)
	before := len(w.server.Requests())
	w.server.Quiet(0, w.written)
	if n := w.server.Objects(); n != pods {
		t.Errorf("objects = %d, want %d", n, pods)
	}
	if n := len(w.server.Requests()) - before; n < pods || n > pods+4 {
		t.Errorf("%d requests after the outage, want one an object, %d", n, pods)
	}
}

func TestServerThatIsNotThereAtTheStart(t *testing.T) {
	w := newWorld(t)
	w.server.Break(func(*http) *fault { return unavailable() })
	w.Set(status("secrets", objects("password", "7")...))
	w.run()
	w.server.Quiet(3, func() bool { return w.Pending() == 1 })
	if n := w.log.count("not read"); n != 1 {
		t.Errorf("%d lines about the list, want 1", n)
	}
	for _, r := range w.server.Requests() {
		if r != gotten {
			t.Errorf("requests = %q, want no write before it is known what there is", w.server.Requests())
			break
		}
	}
	w.server.Break(nil)
	w.server.Quiet(4, w.written)
	if got, want := w.versions(), "password=7"; got != want {
		t.Errorf("objects = %q, want %q", got, want)
	}
}

func TestConflictWithoutEndIsTriedLater(t *testing.T) {
	w := running(t)
	w.Set(status("secrets", objects("password", "7")...))
	w.expect(gotten, created)
	w.server.Break(only("PUT", name, apierrors.NewConflict(resource(), name, errors.New("again"))))
	w.Set(status("secrets", objects("password", "8")...))
	w.server.Quiet(20, func() bool { return w.Pending() == 1 })
	if n := w.log.count("trouble=contended"); n != 1 {
		t.Errorf("%d lines, want 1", n)
	}
	w.server.Break(nil)
	w.server.Quiet(21, w.written)
	if got, want := w.versions(), "password=8"; got != want {
		t.Errorf("objects = %q, want %q", got, want)
	}
}

// An answer of the API server repeats what it was sent.
func TestLogHoldsNoTextOfTheServer(t *testing.T) {
	const secret = "canary-8b1f0c9e"
	w := running(t)
	w.server.Break(func(*http) *fault { return apierrors.NewBadRequest(secret) })
	w.Set(status("secrets", objects(secret, secret)...))
	w.server.Quiet(2, func() bool { return w.log.count("object-refused") > 0 })
	if w.log.count(secret) > 0 || w.log.count("object-refused") != 1 {
		t.Errorf("the log repeats what the API server said, or says nothing:\n%s", w.log.text.String())
	}
}
