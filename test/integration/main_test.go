//go:build integration

package integration_test

import (
	"os"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/portcullis-csi/portcullis/test/plugintest"
)

func TestMain(m *testing.M) { os.Exit(plugintest.Main(m)) }

func deleteNow() metav1.DeleteOptions { return metav1.DeleteOptions{GracePeriodSeconds: new(int64)} }
