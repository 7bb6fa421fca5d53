package provider_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

func TestWatch(t *testing.T) {
	dir := socketDir(t)
	start := func(name string, answer answers) *providertest.Provider {
		return providertest.Start(t, providertest.Config{Handler: decent(), Dir: dir, Name: name, Version: answer})
	}
	start("good", says("v1alpha1", "good", "1"))
	start("mute", fails(codes.Unimplemented))
	start("newer", says("v2", canary, canary))
	start("ill", fails(codes.Internal))
	leaving := start("leaving", nil)
	dying := start("dying", nil)
	var log logBuffer
	w := provider.NewWatch(deliverer(t, func(c *provider.Config) {
		quick(c)
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	}, dir))
	if got := w.Statuses(); len(got) != 0 {
		t.Errorf("Statuses() before the first check = %v, want none", got)
	}
	expect := func(what string, want map[string]bool) map[string]provider.Status {
		t.Helper()
		w.Check(t.Context())
		got := w.Statuses()
		for name, up := range want {
			if s, ok := got[name]; !ok || s.Up != up {
				t.Errorf("%s: status of %s = %+v, %t, want up: %t", what, name, s, ok, up)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: Statuses() = %v, want those of %v", what, got, want)
		}
		return got
	}
	first := expect("at first", map[string]bool{"good": true, "mute": true, "newer": false, "ill": false, "leaving": true, "dying": true})
	if first["good"].Success.IsZero() || !first["newer"].Success.IsZero() {
		t.Errorf("last success = %v of one that is up, %v of one that never was, want the first only", first["good"].Success, first["newer"].Success)
	}
	leaving.Stop()
	dying.Stop()
	abandon(t, dir, "dying")
	second := expect("later", map[string]bool{"good": true, "mute": true, "newer": false, "ill": false, "dying": false})
	if got := second["dying"].Success; !got.Equal(first["dying"].Success) {
		t.Errorf("last success of one that died = %v, want it kept: %v", got, first["dying"].Success)
	}
	if text := log.String(); !strings.Contains(text, "provider=dying") || !strings.Contains(text, "hint=") || strings.Contains(text, "provider=good") || strings.Contains(text, canary) {
		t.Errorf("log should name those that are not up, with a hint, and no word of theirs:\n%s", text)
	}
}

// TestWatchIsBounded: whoever can make files in the directory chooses names,
// and each would be a label and a call.
func TestWatchIsBounded(t *testing.T) {
	dir := socketDir(t)
	for i := range provider.MaxWatched + 20 {
		abandon(t, dir, fmt.Sprintf("p%03d", i))
	}
	d := deliverer(t, func(c *provider.Config) { c.ConnectTimeout = 300 * time.Millisecond }, dir)
	w := provider.NewWatch(d)
	begin := time.Now()
	w.Check(t.Context())
	if got := len(w.Statuses()); got != provider.MaxWatched {
		t.Errorf("Statuses() has %d providers, want %d", got, provider.MaxWatched)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("Check() took %v, want the checks at the same time", took)
	}
}

func TestWatchRunsUntilTheEnd(t *testing.T) {
	p := providertest.New(t, decent())
	w := provider.NewWatch(deliverer(t, quick, p.Dir))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx, 5*time.Millisecond) }()
	for deadline := time.Now().Add(10 * time.Second); p.Asked() < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the provider was asked %d times, want three", p.Asked())
		}
	}
	cancel()
	<-done
	before := w.Statuses()["local"]
	if !before.Up {
		t.Errorf("status = %+v, want up", before)
	}
	w.Check(ctx) // what was given up says nothing
	if after := w.Statuses()["local"]; after != before {
		t.Errorf("status after a check that was given up = %+v, want %+v", after, before)
	}
}
