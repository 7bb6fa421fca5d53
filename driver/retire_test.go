package driver_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/driver"
)

// volumes.db goes with the plugin where it remembers nothing, and else stays:
// an event may be owed, and the brake remembers in it.
func TestRetiredRecords(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*driver.Records)
		stays  bool
	}{
		"never written": {func(*driver.Records) {}, false},
		"empty again": {func(r *driver.Records) {
			r.Put(driver.Record{PodUID: "uid", Volume: "v"})
			r.Remove("uid", "v")
		}, false},
		"a volume": {func(r *driver.Records) { r.Put(driver.Record{PodUID: "uid", Volume: "v"}) }, true},
		"the brake holds": {func(r *driver.Records) {
			r.Put(driver.Record{PodUID: "uid", Volume: "v", Denial: driver.Denial{Held: true}})
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			old := openRecords(t, dir)
			old.Put(driver.Record{PodUID: "old", Volume: "v"})
			if err := old.Close(); err != nil {
				t.Fatal(err)
			}
			next := filepath.Join(dir, "volumes.db.next") // of one that was killed
			if err := os.WriteFile(next, []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
			r := openRecords(t, dir)
			r.Remove("old", "v")
			tt.change(r)
			if err := r.Retire(); err != nil {
				t.Fatalf("Retire() = %v, want nil", err)
			}
			if !tt.stays {
				r.Remove("uid", "v") // a sweep that ends late
			}
			if err := r.Close(); err != nil {
				t.Fatalf("Close() = %v, want nil", err)
			}
			time.Sleep(300 * time.Millisecond) // past the delay of a write
			_, err := os.Lstat(filepath.Join(dir, "volumes.db"))
			if tt.stays != (err == nil) || err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("Lstat(volumes.db) = %v, want it to stay: %v", err, tt.stays)
			}
			if _, err := os.Lstat(next); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("Lstat(volumes.db.next) = %v, want it gone", err)
			}
		})
	}
}
