package driver_test

import (
	"os"
	"testing"

	"github.com/portcullis-csi/portcullis/test/plugintest"
)

func TestMain(m *testing.M) { os.Exit(plugintest.Main(m)) }
