//go:build attack

package provider_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/portcullis-csi/portcullis/driver/provider"
)

// TestCloseWaitsForAllAtOnce: a node has a few providers, and half a minute to
// stop in.
func TestCloseWaitsForAllAtOnce(t *testing.T) {
	const many = 3
	dir := socketDir(t)
	d, err := provider.New(provider.Config{Dirs: []string{dir}, Logger: discard(), Timeout: 10 * time.Second})
	must(t, err)
	for i := range many {
		name := fmt.Sprintf("deaf-%d", i)
		full := deaf(t, filepath.Join(dir, name+".sock"))
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		if _, err := d.Check(ctx, name); err == nil {
			t.Errorf("Check(%s) = nil, want an error", name)
		}
		cancel()
		<-full
	}
	begin := time.Now()
	d.Close()
	if took := time.Since(begin); took > 2*patience {
		t.Errorf("Close() with %d deaf providers took %v, want the five seconds of one", many, took)
	}
}
