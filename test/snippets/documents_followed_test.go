//go:build !race

// The programs that a reader runs are other processes, without the race detector: here it
// would see nothing.

package snippets_test

import (
	"testing"

	"github.com/portcullis-csi/portcullis/hardening/hardeningtest"
	"github.com/portcullis-csi/portcullis/test/snippets"
)

// A newcomer who types what a document says, word for word, sees what it shows. What
// needs a cluster is played in one by test/e2e.
func TestDocumentsAreTrueWordForWord(t *testing.T) {
	follow(t, func(b snippets.Block) bool { return b.Root || b.Cluster })
}

// The same with the steps that need root: the demo, under the reader's policy.
func TestDocumentsAreTrueWordForWordAsRoot(t *testing.T) {
	hardeningtest.NeedRoot(t)
	follow(t, func(b snippets.Block) bool { return b.Cluster })
}
