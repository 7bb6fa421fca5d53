package identity_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/yaml"

	"github.com/portcullis-csi/portcullis/driver/identity"
	"github.com/portcullis-csi/portcullis/policies/kube"
)

func TestNobodyIsConfirmedByAnUnfitDriverObject(t *testing.T) {
	for name, c := range map[string]struct {
		object *storagev1.CSIDriver
		field  string
	}{
		"missing":                {nil, ""},
		"podInfoOnMount false":   {driverObject(func(s *storagev1.CSIDriverSpec) { s.PodInfoOnMount = new(false) }), "spec.podInfoOnMount"},
		"podInfoOnMount not set": {driverObject(func(s *storagev1.CSIDriverSpec) { s.PodInfoOnMount = nil }), "spec.podInfoOnMount"},
		"zero":                   {&storagev1.CSIDriver{}, "spec.podInfoOnMount"},
		"of another driver": {func() *storagev1.CSIDriver {
			d := driverObject(nil)
			d.Name = "other.csi"
			return d
		}(), "metadata.name"},
	} {
		t.Run(name, func(t *testing.T) {
			world := &cluster{pod: pod(nil), driver: c.object}
			got, err := verifier(t, world, nil).Verify(t.Context(), claim(nil))
			e, ok := errors.AsType[*identity.DriverObjectError](err)
			if !ok || e.Field != c.field || e.Remedy == "" || !strings.Contains(err.Error(), c.field) {
				t.Errorf("Verify() = %v, want *DriverObjectError of field %q with a remedy", err, c.field)
			}
			if errors.Is(err, kube.ErrNotFound) {
				t.Error("the error is kube.ErrNotFound: it would read as a missing pod")
			}
			if got.Pod != nil || world.calls != 1 {
				t.Errorf("Verify() = %v after %d calls, want nobody, and nothing else read", got.Pod, world.calls)
			}
		})
	}
}

// The file that the documents tell people to apply is as the driver wants it.
func TestCheckDriverObjectOfTheChart(t *testing.T) {
	text, err := os.ReadFile("../../deploy/chart/files/csidriver.yaml")
	if err != nil {
		t.Fatal(err)
	}
	object := &storagev1.CSIDriver{}
	if err := yaml.UnmarshalStrict(text, object); err != nil {
		t.Fatal(err)
	}
	if got := identity.CheckDriverObject(object); got != nil {
		t.Errorf("CheckDriverObject(the chart's file) = %v, want nothing", got)
	}
	if object.Name != driverName {
		t.Errorf("the object's name is %q, want %q", object.Name, driverName)
	}
}

func TestCheckDriverObject(t *testing.T) {
	if got := identity.CheckDriverObject(driverObject(nil)); got != nil {
		t.Errorf("CheckDriverObject(as wanted) = %v, want nothing", got)
	}
	if got := identity.CheckDriverObject(nil); len(got) != 1 || got[0].Severity != identity.SeverityNoGrants {
		t.Errorf("CheckDriverObject(nil) = %v, want no grants", got)
	}
	const none, broken, weak = identity.SeverityNoGrants, identity.SeverityBroken, identity.SeverityWeak
	for name, c := range map[string]struct {
		change   func(*storagev1.CSIDriverSpec)
		severity identity.Severity
		field    string
	}{
		"no pod info":           {func(s *storagev1.CSIDriverSpec) { s.PodInfoOnMount = nil }, none, "spec.podInfoOnMount"},
		"attachment":            {func(s *storagev1.CSIDriverSpec) { s.AttachRequired = new(true) }, broken, "spec.attachRequired"},
		"attachment by default": {func(s *storagev1.CSIDriverSpec) { s.AttachRequired = nil }, broken, "spec.attachRequired"},
		"only persistent": {func(s *storagev1.CSIDriverSpec) {
			s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
		}, broken, "spec.volumeLifecycleModes"},
		"no lifecycle modes":       {func(s *storagev1.CSIDriverSpec) { s.VolumeLifecycleModes = nil }, broken, "spec.volumeLifecycleModes"},
		"fsGroup by kubelet":       {func(s *storagev1.CSIDriverSpec) { s.FSGroupPolicy = new(storagev1.FileFSGroupPolicy) }, weak, "spec.fsGroupPolicy"},
		"fsGroup by default":       {func(s *storagev1.CSIDriverSpec) { s.FSGroupPolicy = nil }, weak, "spec.fsGroupPolicy"},
		"no republish":             {func(s *storagev1.CSIDriverSpec) { s.RequiresRepublish = nil }, weak, "spec.requiresRepublish"},
		"no tokens":                {func(s *storagev1.CSIDriverSpec) { s.TokenRequests, s.ServiceAccountTokenInSecrets = nil, nil }, weak, "spec.tokenRequests"},
		"tokens in the context":    {func(s *storagev1.CSIDriverSpec) { s.ServiceAccountTokenInSecrets = nil }, weak, "spec.serviceAccountTokenInSecrets"},
		"SELinux label by kubelet": {func(s *storagev1.CSIDriverSpec) { s.SELinuxMount = new(true) }, weak, "spec.seLinuxMount"},
	} {
		t.Run(name, func(t *testing.T) {
			got := identity.CheckDriverObject(driverObject(c.change))
			if len(got) != 1 || got[0].Severity != c.severity || got[0].Field != c.field || got[0].Problem == "" || got[0].Remedy == "" {
				t.Errorf("CheckDriverObject() = %+v, want one problem %q of %s with a remedy", got, c.severity, c.field)
			}
		})
	}
}

func TestCheckDriverObjectListsEverythingGravestFirst(t *testing.T) {
	var got []identity.Severity
	for _, p := range identity.CheckDriverObject(&storagev1.CSIDriver{}) {
		got = append(got, p.Severity)
	}
	const none, broken, weak = identity.SeverityNoGrants, identity.SeverityBroken, identity.SeverityWeak
	if diff := cmp.Diff([]identity.Severity{none, broken, broken, weak, weak, weak}, got); diff != "" {
		t.Errorf("CheckDriverObject(zero) severities (-want +got):\n%s", diff)
	}
}

// Where a tokens key that arrived in the volume context is kubelet's, and where
// it can only be an author's.
func TestTokensInTheVolumeContext(t *testing.T) {
	key := p256(t, "k1")
	good := tokens{"vault": key.mint(apiClaims())}
	inContext := func(s *storagev1.CSIDriverSpec) { s.ServiceAccountTokenInSecrets = nil }
	for name, c := range map[string]struct {
		object           func(*storagev1.CSIDriverSpec)
		secrets, context identity.Tokens
		verified, taken  bool // taken from the context
		refused          bool
	}{
		"in secrets":                               {nil, good, nil, true, false, false},
		"in secrets, and an author's":              {nil, good, good, false, false, true},
		"only an author's":                         {nil, nil, good, false, false, true},
		"an author's that is empty":                {nil, good, tokens{}, false, false, true},
		"in the context by kubelet":                {inContext, nil, good, true, true, false},
		"in the context by kubelet, explicitly":    {func(s *storagev1.CSIDriverSpec) { s.ServiceAccountTokenInSecrets = new(false) }, tokens{}, good, true, true, false},
		"in the context by kubelet, none":          {inContext, nil, tokens{}, false, true, false},
		"in secrets by a kubelet that lags behind": {inContext, good, nil, true, false, false},
		"in both while only one can be kubelet's":  {inContext, good, good, false, false, true},
		"nobody asked for tokens":                  {func(s *storagev1.CSIDriverSpec) { s.TokenRequests, s.ServiceAccountTokenInSecrets = nil, nil }, nil, good, false, false, true},
		"nobody asked for tokens, and none came":   {func(s *storagev1.CSIDriverSpec) { s.TokenRequests, s.ServiceAccountTokenInSecrets = nil, nil }, nil, nil, false, false, false},
		"an empty list of requests asks for no token": {func(s *storagev1.CSIDriverSpec) {
			s.TokenRequests, s.ServiceAccountTokenInSecrets = []storagev1.TokenRequest{}, nil
		}, nil, good, false, false, true},
		"no request, but InSecrets false is not a yes": {func(s *storagev1.CSIDriverSpec) { s.TokenRequests, s.ServiceAccountTokenInSecrets = nil, new(false) }, nil, good, false, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			world := clusterOf(pod(nil))
			world.driver = driverObject(c.object)
			got, err := verifier(t, world, newKeys(t, newSource(key))).Verify(t.Context(), claim(func(cl *identity.Claim) { cl.Tokens, cl.ContextTokens = c.secrets, c.context }))
			if spoofed, ok := errors.AsType[*kube.SpoofError](err); ok != c.refused || ok && spoofed.Field != `csi.volumeAttributes["csi.storage.k8s.io/serviceAccount.tokens"]` {
				t.Fatalf("Verify() = %v, want *kube.SpoofError: %t", err, c.refused)
			}
			if got.TokenVerified != c.verified || got.ContextTokens != c.taken {
				t.Errorf("Verify() verified %t, from the context %t, want %t and %t", got.TokenVerified, got.ContextTokens, c.verified, c.taken)
			}
		})
	}
}
