//go:build e2e

package e2e_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// The plugin may die at any moment: what is mounted stays readable, what was
// being mounted is finished by the next one, and the log tells of each delivery
// how it ended.
func TestP7PluginKilledWhileItMounts(t *testing.T) {
	w := inTurn(t, failures)
	namespace := w.namespace("killed")
	t.Cleanup(func() { w.writeSecret("app/password", "first") })
	runs := w.reader(namespace, "runs", "first", "second")
	device := w.superblock(runs)

	w.verified() // the plugin answers, and there is no open intent of before
	goOn := w.hung(providerProcess)
	pods := w.burst(namespace, "burst", 12)
	w.killWhileOpen(namespace, 3)
	goOn()
	killed := time.Now()
	for _, p := range pods {
		w.ready(p, patience)
		w.reads(p, "/secrets/password", "first")
	}
	w.Logf("12 pods are ready %v after the kill", time.Since(killed).Round(100*time.Millisecond))
	events := w.audited(namespace)
	if open := openIntents(events); len(open) > 0 {
		t.Fatalf("deliveries without an end: %v", open)
	}
	recovered, abandoned := interrupted(events)
	w.Logf("the kill interrupted %d deliveries: %d had attached their volume, %d had not", recovered+abandoned, recovered, abandoned)
	if recovered+abandoned < 3 {
		t.Errorf("the log says of %d deliveries that they were interrupted, want 3 or more", recovered+abandoned)
	}
	w.deletedAll(pods...)
	w.goesOn(runs, device, "second")
	w.readAllAlong(runs)
	w.deletedAll(runs)
	w.verified()
}

// interrupted counts how deliveries ended that a death of the plugin had cut.
func interrupted(events []auditEvent) (recovered, abandoned int) {
	for _, e := range events {
		switch e.Reason {
		case "Recovered":
			recovered++
		case "Abandoned":
			abandoned++
		}
	}
	return recovered, abandoned
}

// killWhileOpen kills the plugin when so many deliveries of a namespace have
// begun and not ended, as its log says. They must be held up: else each takes
// milliseconds.
func (w *world) killWhileOpen(namespace string, want int) {
	w.Helper()
	pid := w.process(pluginProcess)
	w.eventually(patience, "deliveries are in progress", func() error {
		if open := openIntents(w.audited(namespace)); len(open) < want {
			return fmt.Errorf("there are %d, want %d", len(open), want)
		}
		return nil
	})
	w.signal(pid, syscall.SIGKILL)
}
