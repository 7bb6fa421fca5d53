//go:build attack

package attack_test

import (
	"os"
	"testing"

	"github.com/portcullis-csi/portcullis/test/plugintest"
)

func TestMain(m *testing.M) { os.Exit(plugintest.Main(m)) }

// program builds a command of the project, once for all tests.
func program(t testing.TB, name, tags string) string {
	t.Helper()
	return plugintest.Program(t, plugintest.Programs(), name, tags)
}
