package apiserver_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

// troubled checks what Trouble says: "" is nothing.
func troubled(t *testing.T, f *fixture, object string, reason apiserver.Reason) {
	t.Helper()
	err := f.Trouble(t.Context())
	if object == "" {
		if err != nil {
			t.Errorf("Trouble() = %v, want nothing", err)
		}
		return
	}
	checkUnavailable(t, err, object, reason)
}

func TestTroubleWithTheAPIServer(t *testing.T) {
	f := newFixture(t)
	f.api.put(classPath, class())
	troubled(t, f, "", "")
	if got := f.api.count(driverPath); got != 1 {
		t.Errorf("Trouble() before the first read made %d requests, want 1", got)
	}
	if _, err := f.Class(t.Context(), "payments", "db"); err != nil {
		t.Fatal(err)
	}
	f.clock.pass(59 * time.Second)
	troubled(t, f, "", "")
	if got := f.api.count(driverPath); got != 1 {
		t.Errorf("Trouble() within a minute of a read made %d requests, want none more", got-1)
	}
	f.clock.pass(2 * time.Second)
	troubled(t, f, "", "")
	if got := f.api.count(driverPath); got != 2 {
		t.Errorf("Trouble() a minute after the last read made %d requests, want 1 more", got-1)
	}

	f.api.says(http.StatusUnauthorized, canary)
	if _, err := f.Class(t.Context(), "payments", "db"); err == nil {
		t.Fatal("Class() of an API server that knows nobody = nil, want an error")
	}
	f.clock.pass(10 * time.Second)
	err := f.Trouble(t.Context())
	checkUnavailable(t, err, "CSIDriver", apiserver.Unauthenticated)
	f.clock.pass(10 * time.Minute)
	err = f.Trouble(t.Context())
	if err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "since 2026-01-15T12:01:11Z: ") {
		t.Errorf("Trouble() = %v, want it since 12:01:11, and no text of the API server", err)
	}
	f.api.answers(nil)
	f.clock.pass(5 * time.Second)
	troubled(t, f, "", "")
}

// Whoever asks for readiness, however often, asks the API server with it seldom.
func TestTroubleAsksSeldom(t *testing.T) {
	f := newFixture(t)
	f.api.says(http.StatusServiceUnavailable, canary)
	for range 5 {
		troubled(t, f, "CSIDriver", apiserver.ServerError)
	}
	if got := f.api.count(driverPath); got != 1 {
		t.Errorf("Trouble() five times made %d requests, want 1", got)
	}
	f.clock.pass(4 * time.Second)
	troubled(t, f, "CSIDriver", apiserver.ServerError)
	f.clock.pass(time.Second)
	troubled(t, f, "CSIDriver", apiserver.ServerError)
	if got := f.api.count(driverPath); got != 2 {
		t.Errorf("Trouble() five seconds later made %d requests in all, want 2", got)
	}
}

// What only one object has is not over because others can be read, and not news
// for ever: nobody may read that object again.
func TestTroubleWithOneObject(t *testing.T) {
	for name, c := range map[string]struct {
		code   int
		reason apiserver.Reason
	}{"forbidden": {http.StatusForbidden, apiserver.Forbidden}, "not served": {http.StatusNotFound, apiserver.NotServed}} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.api.answers(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != classPath {
					return false
				}
				w.WriteHeader(c.code)
				return true
			})
			if _, err := f.Class(t.Context(), "payments", "db"); err == nil {
				t.Fatal("Class() = nil, want an error")
			}
			troubled(t, f, "SecretProviderClass", c.reason)
			f.clock.pass(4 * time.Minute)
			troubled(t, f, "SecretProviderClass", c.reason)
			f.clock.pass(2 * time.Minute)
			troubled(t, f, "", "")
			if _, err := f.Class(t.Context(), "payments", "db"); err == nil {
				t.Fatal("Class() = nil, want an error")
			}
			f.api.answers(nil)
			f.api.put(classPath, class())
			if _, err := f.Class(t.Context(), "payments", "db"); err != nil {
				t.Fatal(err)
			}
			troubled(t, f, "", "")
		})
	}
}

// Absence is an answer.
func TestTroubleIsNotAbsence(t *testing.T) {
	f := newFixture(t)
	f.api.remove(driverPath)
	troubled(t, f, "", "")
	if _, err := f.Class(t.Context(), "payments", "absent"); err == nil {
		t.Fatal("Class(absent) = nil, want an error")
	}
	troubled(t, f, "", "")
}

// An API server that swallows requests holds up readiness no longer than asked.
func TestTroubleEndsWithItsContext(t *testing.T) {
	f := newFixture(t)
	release := make(chan struct{})
	defer close(release)
	f.api.answers(func(http.ResponseWriter, *http.Request) bool { <-release; return true })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	checkUnavailable(t, f.Trouble(ctx), "CSIDriver", apiserver.Timeout)
	gone, stop := context.WithCancel(t.Context())
	stop()
	if err := newFixture(t).Trouble(gone); errors.Is(err, context.Canceled) {
		t.Errorf("Trouble(of a caller that is gone) = %v, want nothing that the caller did", err)
	}
}
