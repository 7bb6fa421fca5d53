package apiserver_test

import (
	"encoding/json"
	"testing"
	"time"
)

// An etcd that was restored from a backup counts versions again that were there
// before: a watch is told nothing of what happens meanwhile, and then goes on.
// What it goes on with is not to be believed.
func TestWatchThatWasSilentBeginsAnew(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	labels := func() string {
		t.Helper()
		found, err := f.Namespace(t.Context(), "payments")
		if err != nil {
			t.Fatal(err)
		}
		return found.Labels["team"]
	}
	f.watching(t)
	f.clock.pass(4 * time.Minute)
	changed := namespace()
	changed.Labels["team"] = "nobody"
	changed.ResourceVersion = "2"
	text, err := json.Marshal(changed)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	f.api.mu.Lock()
	f.api.objects[namespacePath] = fields // without a word to anybody
	f.api.mu.Unlock()
	if got := labels(); got != "nobody" {
		t.Errorf("label while the watch is silent = %q, want what is read live", got)
	}
	lists := f.api.count(namespacesPath)
	other := namespace()
	other.Name = "shop"
	f.api.put("/api/v1/namespaces/shop", other)
	eventually(t, "another list", func() bool { return f.api.count(namespacesPath) > lists })
	asked := f.api.count(namespacePath)
	eventually(t, "an answer of the cache", func() bool {
		before := f.api.count(namespacePath)
		if got := labels(); got != "nobody" {
			t.Fatalf("label after the watch went on = %q, want that of now", got)
		}
		return f.api.count(namespacePath) == before
	})
	if asked == 0 {
		t.Error("nothing was read live while the watch was silent")
	}
}
