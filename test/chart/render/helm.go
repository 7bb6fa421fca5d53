package render

import (
	"fmt"
	"strings"

	loader3 "helm.sh/helm/v3/pkg/chart/loader"
	util3 "helm.sh/helm/v3/pkg/chartutil"
	engine3 "helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	loader4 "helm.sh/helm/v4/pkg/chart/v2/loader"
	util4 "helm.sh/helm/v4/pkg/chart/v2/util"
	engine4 "helm.sh/helm/v4/pkg/engine"
)

// Helm4 renders with the library of Helm 4.
func Helm4(c Config) (Files, error) {
	c = c.withDefaults()
	chart, err := loader4.Load(c.Chart)
	if err != nil {
		return nil, err
	}
	version, err := common.ParseKubeVersion(c.Kubernetes)
	if err != nil {
		return nil, err
	}
	if err := compatible(chart.Metadata.KubeVersion, version.String()); err != nil {
		return nil, err
	}
	capabilities := *common.DefaultCapabilities
	capabilities.KubeVersion = *version
	values, err := commonutil.ToRenderValues(chart, c.Values, common.ReleaseOptions{
		Name: c.Release, Namespace: c.Namespace, Revision: 1, IsInstall: !c.Upgrade, IsUpgrade: c.Upgrade,
	}, &capabilities)
	if err != nil {
		return nil, err
	}
	rendered, err := engine4.Render(chart, values)
	if err != nil {
		return nil, err
	}
	files := below(chart.Name(), rendered)
	for _, crd := range chart.CRDObjects() {
		files[crd.Name] = string(crd.File.Data)
	}
	return files, nil
}

// Helm3 renders with the library of Helm 3.
func Helm3(c Config) (Files, error) {
	c = c.withDefaults()
	chart, err := loader3.Load(c.Chart)
	if err != nil {
		return nil, err
	}
	version, err := util3.ParseKubeVersion(c.Kubernetes)
	if err != nil {
		return nil, err
	}
	if err := compatible(chart.Metadata.KubeVersion, version.String()); err != nil {
		return nil, err
	}
	capabilities := *util3.DefaultCapabilities
	capabilities.KubeVersion = *version
	values, err := util3.ToRenderValues(chart, c.Values, util3.ReleaseOptions{
		Name: c.Release, Namespace: c.Namespace, Revision: 1, IsInstall: !c.Upgrade, IsUpgrade: c.Upgrade,
	}, &capabilities)
	if err != nil {
		return nil, err
	}
	rendered, err := engine3.Render(chart, values)
	if err != nil {
		return nil, err
	}
	files := below(chart.Name(), rendered)
	for _, crd := range chart.CRDObjects() {
		files[crd.Name] = string(crd.File.Data)
	}
	return files, nil
}

// compatible is the check that both make before they install.
func compatible(constraint, version string) error {
	if constraint != "" && !util4.IsCompatibleRange(constraint, version) {
		return fmt.Errorf("chart requires kubeVersion: %s which is incompatible with Kubernetes %s", constraint, version)
	}
	return nil
}

// below drops the chart's name from the paths.
func below(chart string, rendered map[string]string) Files {
	files := Files{}
	for name, text := range rendered {
		files[strings.TrimPrefix(name, chart+"/")] = text
	}
	return files
}
