package chart_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/portcullis-csi/portcullis/test/chart/openapi"
	"github.com/portcullis-csi/portcullis/test/chart/render"
)

// foreign are kinds of others that the chart makes only when told to.
var foreign = map[string]string{
	"monitoring.coreos.com/v1/PodMonitor": "of the Prometheus operator, by podMonitor.enabled",
	"cert-manager.io/v1/Certificate":      "of cert-manager, by webhook.certManager.enabled",
	"cert-manager.io/v1/Issuer":           "of cert-manager, by webhook.certManager.enabled",
}

// apis returns what each version of Kubernetes takes, with our definitions.
func apis(t *testing.T) map[string]*openapi.Spec {
	t.Helper()
	specs := map[string]*openapi.Spec{}
	for _, v := range openapi.Versions() {
		spec, err := openapi.Load(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		defined := 0
		for _, o := range install(t, v.Tag, "").objects {
			if o.IsCRD() {
				defined++
				if err := spec.Define(o.Fields); err != nil {
					t.Fatalf("%s for Kubernetes %s: %v", o, v.Tag, err)
				}
			}
		}
		if defined != 2 {
			t.Fatalf("the chart defines %d kinds, want 2", defined)
		}
		specs[v.Tag] = spec
	}
	return specs
}

func TestEveryObjectIsValid(t *testing.T) {
	specs := apis(t)
	forEach(t, func(t *testing.T, r release) {
		for tag, spec := range specs {
			r.config.Kubernetes = tag
			checked := 0
			for _, o := range with(t, r.name, r.config).objects {
				if _, ok := foreign[o.Kind()]; ok {
					continue
				}
				checked++
				for _, wrong := range spec.Validate(o.Fields) {
					t.Errorf("Kubernetes %s: %s%s", tag, o, wrong)
				}
			}
			if checked < 4 {
				t.Errorf("Kubernetes %s: checked %d objects, want at least 4", tag, checked)
			}
		}
	})
}

// Samples are copied: what an API server drops without a word would be copied too.
func TestEverySampleIsValid(t *testing.T) {
	specs := apis(t)
	names, err := filepath.Glob(repository + "/deploy/samples/*.yaml")
	if err != nil || len(names) < 4 {
		t.Fatalf("found the samples %q, %v", names, err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			objects, err := render.Parse(filepath.Base(name), read(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if len(objects) == 0 {
				t.Fatal("no objects")
			}
			for tag, spec := range specs {
				for _, o := range objects {
					for _, wrong := range spec.Validate(o.Fields) {
						t.Errorf("Kubernetes %s: %s%s", tag, o, wrong)
					}
				}
			}
		})
	}
}

// The plain manifests are applied by hand, as OPERATIONS says.
func TestPlainManifestsAreValid(t *testing.T) {
	specs := apis(t)
	names, err := filepath.Glob(chartDir + "/files/*/*.yaml")
	if err != nil || len(names) < 13 {
		t.Fatalf("found the manifests %q, %v", names, err)
	}
	for _, name := range append(names, chartDir+"/files/csidriver.yaml") {
		objects, err := render.Parse(filepath.Base(name), read(t, name))
		if err != nil {
			t.Fatal(err)
		}
		for tag, spec := range specs {
			for _, o := range objects {
				if wrong := spec.Validate(o.Fields); len(wrong) > 0 {
					t.Errorf("Kubernetes %s: %s: %s", tag, o, strings.Join(wrong, "; "))
				}
			}
		}
	}
}
