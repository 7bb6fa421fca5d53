package provider_test

import (
	"encoding/json"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/hardening"
	"github.com/portcullis-csi/portcullis/policies"
)

func TestDeliverWritesExactlyWhatWasGranted(t *testing.T) {
	p := providertest.New(t, providertest.Files(map[string]string{"db-password": canary, "tls.key": "", "sub/ca.pem": "pem"}))
	call := allowed(t, objects("db-password", "tls.key", "sub/ca.pem"))
	got, err := deliverer(t, nil, p.Dir).Deliver(t.Context(), call)
	if err != nil {
		t.Fatalf("Deliver() = %v", err)
	}
	want := provider.Delivered{
		Files: []provider.DeliveredFile{
			{Path: "db-password", Size: int64(len(canary)), Mode: 0o440, Version: "v1"},
			{Path: "tls.key", Size: 0, Mode: 0o440, Version: "v1"},
			{Path: "sub/ca.pem", Size: 3, Mode: 0o440, Version: "v1"},
		},
		Versions: []provider.ObjectVersion{{ID: "db-password", Version: "v1"}, {ID: "sub/ca.pem", Version: "v1"}, {ID: "tls.key", Version: "v1"}},
		Clamped:  []string{"db-password", "tls.key", "sub/ca.pem"},
		Changed:  true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Deliver() (-want +got):\n%s", diff)
	}
	wantFiles := map[string]providertest.File{
		"db-password": {Content: canary, Mode: 0o440}, "tls.key": {Mode: 0o440}, "sub/ca.pem": {Content: "pem", Mode: 0o440},
	}
	if diff := cmp.Diff(wantFiles, volumeOf(t, call).Files()); diff != "" {
		t.Errorf("volume (-want +got):\n%s", diff)
	}
}

func TestProviderSeesUpstreamsRequest(t *testing.T) {
	p := providertest.New(t, providertest.Files(map[string]string{"db-password": "x"}))
	call := allowed(t, objects("db-password"))
	tokens := map[string]string{provider.TokensKey: tokensJSON, "clientid": "id\"1", "clientsecret": "s\x01\\"}
	var err error
	if call.Tokens, err = provider.ParseTokens(tokens); err != nil {
		t.Fatalf("ParseTokens() = %v", err)
	}
	call.Secrets = provider.NewSecrets(tokens)
	call.CurrentVersions = []provider.ObjectVersion{{ID: "payments/db-password", Version: "v0"}}
	if _, err := deliverer(t, nil, p.Dir).Deliver(t.Context(), call); err != nil {
		t.Fatalf("Deliver() = %v", err)
	}
	calls := p.Calls()
	if len(calls) != 1 {
		t.Fatalf("the provider saw %d calls, want 1", len(calls))
	}
	subject := call.Grant.Subject()
	want := &v1alpha1.MountRequest{
		Attributes:           calls[0].GetAttributes(), // below
		Secrets:              `{"clientid":"id\"1","clientsecret":"s\u0001\\"}`,
		TargetPath:           "/nonexistent/portcullis/" + subject.PodUID + "/" + call.Grant.VolumeName(),
		Permission:           "288", // 0440
		CurrentObjectVersion: []*v1alpha1.ObjectVersion{{Id: "payments/db-password", Version: "v0"}},
	}
	if diff := cmp.Diff(want, calls[0], protocmp.Transform()); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	var attributes map[string]string
	if err := json.Unmarshal([]byte(calls[0].GetAttributes()), &attributes); err != nil {
		t.Fatalf("attributes %q: %v", calls[0].GetAttributes(), err)
	}
	wantAttributes := map[string]string{
		"objects":                                "- objectName: payments/db-password\n  objectAlias: db-password\n",
		"secretProviderClass":                    "db",
		"csi.storage.k8s.io/pod.name":            subject.PodName,
		"csi.storage.k8s.io/pod.namespace":       subject.Namespace,
		"csi.storage.k8s.io/pod.uid":             subject.PodUID,
		"csi.storage.k8s.io/serviceAccount.name": subject.ServiceAccount,
		"csi.storage.k8s.io/ephemeral":           "true",
		provider.TokensKey:                       tokensJSON,
	}
	if diff := cmp.Diff(wantAttributes, attributes); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"localhost"}, p.Authorities()); diff != "" {
		t.Errorf("authority (-want +got):\n%s", diff)
	}
}

func TestRotationReplaces(t *testing.T) {
	next := providertest.Files(map[string]string{"db-password": "two"})
	p := providertest.New(t, providertest.InTurn(providertest.Files(map[string]string{"db-password": "one"}), next))
	d := deliverer(t, nil, p.Dir)
	call := allowed(t, objects("db-password"))
	steps := []struct {
		rotate, changed bool
		content         string
	}{{false, true, "one"}, {true, true, "two"}, {true, false, "two"}}
	for i, s := range steps {
		call.Rotate = s.rotate
		got, err := d.Deliver(t.Context(), call)
		if err != nil || got.Changed != s.changed {
			t.Errorf("step %d: Deliver() = changed %v, %v, want %v", i, got.Changed, err, s.changed)
		}
		if content := volumeOf(t, call).Files()["db-password"].Content; content != s.content {
			t.Errorf("step %d: content %q, want %q", i, content, s.content)
		}
	}
}

func TestModesAndOwners(t *testing.T) {
	noGroup := func(in *policies.Input) { in.Volume.VolumeMountGroup = nil; in.Pod.FSGroup = nil }
	tests := map[string]struct {
		object  object
		change  func(*policies.Input)
		mode    int32
		want    providertest.File
		clamped bool
	}{
		"default":            {object{name: "payments/f", file: "f"}, nil, 0, providertest.File{Mode: 0o440}, false},
		"upstream's default": {object{name: "payments/f", file: "f"}, nil, 0o644, providertest.File{Mode: 0o440}, true},
		"everything":         {object{name: "payments/f", file: "f"}, nil, 0o777, providertest.File{Mode: 0o440}, true},
		"setuid":             {object{name: "payments/f", file: "f"}, nil, 0o4444, providertest.File{Mode: 0o440}, true},
		"owner only, group":  {object{name: "payments/f", file: "f"}, nil, 0o400, providertest.File{Mode: 0o440}, false},
		"no group":           {object{name: "payments/f", file: "f"}, noGroup, 0o777, providertest.File{Mode: 0o444}, true},
		"no group, 0400":     {object{name: "payments/f", file: "f"}, noGroup, 0o400, providertest.File{Mode: 0o400}, false},
		"class goes first":   {object{name: "payments/f", file: "f", mode: ptr(uint32(0o440))}, nil, 0o777, providertest.File{Mode: 0o440}, false},
		"owner":              {object{name: "payments/f", file: "f", uid: ptr(int64(1000))}, nil, 0o400, providertest.File{Mode: 0o400, UID: 1000}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := providertest.New(t, providertest.Reply(&v1alpha1.MountResponse{
				Files:         []*v1alpha1.File{{Path: "f", Mode: tt.mode}},
				ObjectVersion: []*v1alpha1.ObjectVersion{{Id: "f"}},
			}))
			change := tt.change
			if change == nil {
				change = func(*policies.Input) {}
			}
			call := decided(t, grants+"  ownerUID: 1000\n", []object{tt.object}, change)
			got, err := deliverer(t, nil, p.Dir).Deliver(t.Context(), call)
			if err != nil {
				t.Fatalf("Deliver() = %v", err)
			}
			if diff := cmp.Diff(map[string]providertest.File{"f": tt.want}, volumeOf(t, call).Files()); diff != "" {
				t.Errorf("mode %#o (-want +got):\n%s", tt.mode, diff)
			}
			if clamped := len(got.Clamped) == 1; clamped != tt.clamped {
				t.Errorf("Deliver(mode %#o).Clamped = %q, want %v", tt.mode, got.Clamped, tt.clamped)
			}
		})
	}
}

func TestNothingLeavesWithoutAGrant(t *testing.T) {
	p := providertest.New(t, providertest.Files(map[string]string{"db-password": canary}))
	d := deliverer(t, nil, p.Dir)
	good := allowed(t, objects("db-password"))
	tests := map[string]struct {
		change func(*provider.Call)
		want   provider.Reason
		code   codes.Code
	}{
		"zero grant":           {func(c *provider.Call) { c.Grant = policies.Grant{} }, provider.NotGranted, codes.PermissionDenied},
		"no volume":            {func(c *provider.Call) { c.Volume = nil }, provider.NotGranted, codes.PermissionDenied},
		"zero parameters":      {func(c *provider.Call) { c.Effective = allowedZero() }, provider.ParametersChanged, codes.Unavailable},
		"other parameters":     {func(c *provider.Call) { c.Effective = effective(t, map[string]string{"objects": "[]"}) }, provider.ParametersChanged, codes.Unavailable},
		"one parameter more":   {func(c *provider.Call) { c.Effective = withParameter(t, "region", "x") }, provider.ParametersChanged, codes.Unavailable},
		"wiped token":          {func(c *provider.Call) { c.Tokens = wipedTokens(t) }, provider.NotGranted, codes.PermissionDenied},
		"wiped publish secret": {func(c *provider.Call) { c.Secrets = wipedSecrets() }, provider.NotGranted, codes.PermissionDenied},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			call := good
			tt.change(&call)
			_, err := d.Deliver(t.Context(), call)
			if got := reasonOf(t, err); got != tt.want {
				t.Fatalf("Deliver() = %v (%s), want %s", err, got, tt.want)
			}
			var e *provider.Error
			if errors.As(err, &e) && e.Code() != tt.code {
				t.Errorf("Deliver().Code() = %v, want %v", e.Code(), tt.code)
			}
			if n := len(p.Calls()); n != 0 {
				t.Errorf("the provider saw %d calls, want none", n)
			}
		})
	}
	if _, err := d.Deliver(t.Context(), good); err != nil || len(p.Calls()) != 1 {
		t.Errorf("control: Deliver() = %v with %d calls, want one that succeeds", err, len(p.Calls()))
	}
}

func TestWriteErrors(t *testing.T) {
	tests := map[string]struct {
		err  error
		want provider.Reason
		code codes.Code
	}{
		"limit":  {&hardening.LimitError{Field: "volume bytes", Got: 2, Max: 1}, provider.VolumeFull, codes.ResourceExhausted},
		"path":   {&hardening.PathError{Path: "a", Reason: "path is given twice"}, provider.ReplyInvalid, codes.Unavailable},
		"kernel": {&hardening.ScrubError{Count: 1, First: syscall.EIO}, provider.WriteFailed, codes.Unavailable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := providertest.New(t, providertest.Files(map[string]string{"db-password": canary}))
			call := allowed(t, objects("db-password"))
			call.Volume = &providertest.Volume{Err: tt.err}
			_, err := deliverer(t, nil, p.Dir).Deliver(t.Context(), call)
			var e *provider.Error
			if !errors.As(err, &e) || e.Reason != tt.want || e.Code() != tt.code {
				t.Errorf("Deliver() = %v, want %s and %v", err, tt.want, tt.code)
			}
		})
	}
}

func TestNewNamesTheField(t *testing.T) {
	good := provider.Config{Dirs: []string{"/run/providers"}, Logger: discard()}
	tests := map[string]struct {
		change func(*provider.Config)
		want   string // "" for no error
	}{
		"minimal":          {func(*provider.Config) {}, ""},
		"no directory":     {func(c *provider.Config) { c.Dirs = nil }, "Dirs"},
		"empty directory":  {func(c *provider.Config) { c.Dirs = []string{""} }, "Dirs"},
		"no logger":        {func(c *provider.Config) { c.Logger = nil }, "Logger"},
		"negative size":    {func(c *provider.Config) { c.MaxReceiveBytes = -1 }, "MaxReceiveBytes"},
		"no concurrency":   {func(c *provider.Config) { c.Concurrency = -1 }, "Concurrency"},
		"long timeout":     {func(c *provider.Config) { c.Timeout = provider.MaxTimeout + 1 }, "Timeout"},
		"negative timeout": {func(c *provider.Config) { c.Timeout = -time.Second }, "Timeout"},
		"negative connect": {func(c *provider.Config) { c.ConnectTimeout = -1 }, "ConnectTimeout"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := good
			tt.change(&c)
			_, err := provider.New(c)
			if tt.want == "" && err != nil || tt.want != "" && !mentions(err, tt.want) {
				t.Errorf("New(%+v) = %v, want an error that names %q", c, err, tt.want)
			}
		})
	}
}
