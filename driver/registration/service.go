package registration

import (
	"context"
	"log/slog"
	"strconv"
	"strings"

	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// csiVersion is the version of CSI that kubelet is told; it takes every 1.x.
const csiVersion = "1.0.0"

// maxKubeletText is how much of what kubelet says goes to the log.
const maxKubeletText = 512

// service is the gRPC side of a Registrar.
type service struct {
	registerapi.UnimplementedRegistrationServer
	r *Registrar
}

// GetInfo tells kubelet what the plugin is and where its CSI socket is.
func (s service) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{
		Type: registerapi.CSIPlugin, Name: s.r.c.DriverName, Endpoint: s.r.c.Endpoint,
		SupportedVersions: []string{csiVersion},
	}, nil
}

// NotifyRegistrationStatus notes what became of the registration. It never
// fails: on an error kubelet would deregister what it has just registered.
func (s service) NotifyRegistrationStatus(_ context.Context, status *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	if !status.GetPluginRegistered() {
		// Kubelet tries again every second: the log has the first of a row.
		if s.r.settle(ErrRefused) {
			s.r.c.Logger.Error("kubelet could not register the plugin, and will try again", slog.String(keyKubelet, clip(status.GetError())))
		}
		return &registerapi.RegistrationStatusResponse{}, nil
	}
	if s.r.settle(nil) {
		s.r.c.Logger.Info("kubelet has registered the plugin", slog.String(keyEndpoint, s.r.c.Endpoint))
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}

// clip returns at most maxKubeletText bytes of printable ASCII: the text may
// quote whatever a plugin answered to kubelet.
func clip(s string) string {
	s = strings.Trim(strconv.QuoteToASCII(s[:min(len(s), maxKubeletText)]), `"`)
	return s[:min(len(s), maxKubeletText)]
}
