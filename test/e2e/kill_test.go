//go:build e2e

package e2e_test

import (
	"bufio"
	"context"
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

	// Whether a kill hits a mount in progress is chance: the log tells.
	const tries = 4
	for try := 1; ; try++ {
		w.verified() // the plugin answers, and there is no open intent of before
		pods := w.burst(namespace, "burst-"+string(rune('0'+try)), 12)
		w.killWhileOpen(namespace, 3)
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
		w.Logf("try %d: the kill interrupted %d deliveries: %d had attached their volume, %d had not", try, recovered+abandoned, recovered, abandoned)
		w.deletedAll(pods...)
		if recovered+abandoned > 0 {
			break
		}
		if try == tries {
			t.Fatalf("none of %d kills hit a mount in progress", tries)
		}
	}
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

// killWhileOpen kills the plugin as soon as so many deliveries of a namespace
// have begun and not ended, as its log says.
func (w *world) killWhileOpen(namespace string, want int) {
	w.Helper()
	pid := w.process(pluginProcess)
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	tail := w.lab.Command(ctx, made.portcullis, "audit", "tail", "-f", "-n", "1", "--namespace", namespace, "-o", "json")
	out, err := tail.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	if err := tail.Start(); err != nil {
		w.Fatal(err)
	}
	var events []auditEvent
	lines := bufio.NewScanner(out)
	for len(openIntents(events)) < want && lines.Scan() {
		events = append(events, w.parsed(lines.Text())...)
	}
	open := len(openIntents(events))
	w.signal(pid, syscall.SIGKILL)
	cancel()
	_ = tail.Wait() // killed
	if open < want {
		w.Fatalf("there were %d deliveries in progress at a time, want %d", open, want)
	}
}
