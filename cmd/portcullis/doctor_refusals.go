package main

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/portcullis-csi/portcullis/doctor"
	"github.com/portcullis-csi/portcullis/doctor/refusals"
)

// providerAccount is the service account of the chart's local provider, which the
// policies exempt as the plugin's.
const providerAccount = "portcullis-provider-local"

// refusals is what the chart's admission policies would refuse in a pod, with
// the chart's own settings. Which namespaces are exempt, their bindings say.
func (o *doctorOptions) refusals(pod *corev1.Pod) []doctor.Refusal {
	settings := refusals.Settings{
		Driver: o.node.Driver, KubeletRoot: o.node.KubeletRoot, StateDir: o.node.StateDir,
		SocketDirs: o.node.ProviderDirs,
		Namespace:  o.namespace, ServiceAccounts: []string{o.account, providerAccount},
	}
	var found []doctor.Refusal
	for _, r := range refusals.Of(pod, settings) {
		found = append(found, doctor.Refusal(r))
	}
	return found
}
