package provider_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

// fragments keeps the memory in which replies arrived.
type fragments struct {
	mu     sync.Mutex
	all    [][]byte
	before int // canaries seen before the wipe
}

func (f *fragments) see(p []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, p)
	f.before += bytes.Count(p, []byte(canary))
}

// TestReceivedFragmentsAreWiped (promise P5) looks at the very memory that the
// reply arrived in, for replies that succeed and for those that are refused.
func TestReceivedFragmentsAreWiped(t *testing.T) {
	tests := map[string]struct {
		handler providertest.Handler
		want    provider.Reason
	}{
		"small, below the pool's threshold": {response(nil, "db-password"), ""},
		"5 kB":                              {providertest.Files(map[string]string{"db-password": strings.Repeat(canary, 220)}), ""},
		"100 kB, many frames":               {providertest.Files(map[string]string{"db-password": strings.Repeat(canary, 4400)}), ""},
		"beyond the grant":                  {response(nil, "db-password", "other"), provider.BeyondGrant},
		"bad message":                       {providertest.Raw(append([]byte(canary), strings.Repeat(canary, 100)...)), provider.ReplyInvalid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := providertest.New(t, tt.handler)
			d := deliverer(t, nil, p.Dir)
			var f fragments
			d.OnFragment(f.see)
			_, err := d.Deliver(t.Context(), allowed(t, objects("db-password")))
			if got := reasonOf(t, err); got != tt.want {
				t.Fatalf("Deliver() = %v, want %q", err, tt.want)
			}
			if f.before == 0 {
				t.Error("control: no canary was in the fragments before the wipe")
			}
			for i, fragment := range f.all {
				if bytes.Contains(fragment, []byte(canary[:8])) {
					t.Errorf("fragment %d of %d bytes holds the secret after Deliver", i, len(fragment))
				}
			}
		})
	}
}

func TestRequestBufferIsWiped(t *testing.T) {
	call := allowed(t, objects("db-password"))
	var err error
	call.Tokens, err = provider.ParseTokens(map[string]string{provider.TokensKey: `{"a":{"token":"` + canary + `"}}`})
	must(t, err)
	call.Secrets = provider.NewSecrets(map[string]string{"clientsecret": canary})
	encoded, after, err := provider.RequestBuffers(call)
	must(t, err)
	var request v1alpha1.MountRequest
	must(t, proto.Unmarshal([]byte(encoded), &request))
	if !strings.Contains(request.GetAttributes(), canary) || !strings.Contains(request.GetSecrets(), canary) {
		t.Errorf("control: request %v does not hold the canary", &request)
	}
	for i, b := range after {
		if b != 0 {
			t.Fatalf("byte %d of the request's buffer is %q after grpc gave it back", i, b)
		}
	}
}
