package podstatus_test

import (
	"encoding/pem"
	"io"
	"log/slog"
	nethttp "net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/driver/podstatus"
)

// An answer that points elsewhere does not take the credentials there: the
// transport would add them to whatever it asks.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var led, writes atomic.Int64
	elsewhere := httptest.NewServer(nethttp.HandlerFunc(func(nethttp.ResponseWriter, *nethttp.Request) { led.Add(1) }))
	t.Cleanup(elsewhere.Close)
	api := httptest.NewUnstartedServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if r.Method == nethttp.MethodGet { // what the writer begins with
			w.WriteHeader(nethttp.StatusForbidden)
			_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`)
			return
		}
		writes.Add(1)
		w.Header().Set("Location", elsewhere.URL+r.URL.Path)
		w.WriteHeader(nethttp.StatusTemporaryRedirect)
	}))
	api.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	api.StartTLS()
	t.Cleanup(api.Close)
	config := &rest.Config{Host: api.URL, BearerToken: "token", TLSClientConfig: rest.TLSClientConfig{
		CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw}),
	}}
	writer, err := podstatus.NewWriter(podstatus.WriterConfig{REST: config, Node: "node-1", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	events, err := podstatus.NewEvents(podstatus.EventsConfig{REST: config, Node: "node-1", Logger: slog.New(slog.DiscardHandler), RetryAfter: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range []func(){
		func() { writer.Run(t.Context()) }, func() { events.Run(t.Context()) },
	} {
		done := make(chan struct{})
		go func() { run(); close(done) }()
		t.Cleanup(func() { <-done })
	}
	awaitWrite := func(what string) {
		t.Helper()
		before := writes.Load()
		for deadline := time.Now().Add(20 * time.Second); writes.Load() == before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no %s was written within 20 s", what)
			}
		}
	}
	events.Say(podstatus.Event{Kind: podstatus.Rotated, Namespace: "payments", Pod: "api-0", PodUID: uid, Volume: "secrets"})
	awaitWrite("event")
	writer.Set(podstatus.Status{Namespace: "payments", Pod: "api-0", PodUID: uid, Class: "db", Volume: "secrets", TargetPath: "/t"})
	awaitWrite("status")
	awaitWrite("status again")
	if n := led.Load(); n != 0 {
		t.Errorf("%d requests went where an answer pointed to, want 0", n)
	}
}
