package driver_test

import (
	"testing"

	"github.com/portcullis-csi/portcullis/driver"
	"github.com/portcullis-csi/portcullis/test/metricdocs"
)

func TestOperationsDocumentsEveryMetric(t *testing.T) {
	m := metricdocs.New()
	driver.NewMetrics(t, m)
	m.Check(t, "portcullis-node", 10, *update)
}
