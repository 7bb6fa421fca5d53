package main_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	node "github.com/portcullis-csi/portcullis/cmd/portcullis-node"
)

// TestP11ProviderDirectories: the order, the default and the reading of the two
// flags are upstream's (cmd/secrets-store-csi-driver/main.go, mainErr); but that
// an empty or relative entry is no directory of the process's own.
func TestP11ProviderDirectories(t *testing.T) {
	const extra, main = "/etc/kubernetes/secrets-store-csi-providers", "/var/run/secrets-store-csi-providers"
	tests := map[string]struct {
		args []string
		want []string
		err  string
	}{
		"default":          {nil, []string{extra, main}, ""},
		"one":              {[]string{"--additional-provider-volume-paths=/a"}, []string{"/a", main}, ""},
		"comma separated":  {[]string{"--additional-provider-volume-paths=/b,/a"}, []string{"/b", "/a", main}, ""},
		"the last counts":  {[]string{"--additional-provider-volume-paths=/a", "--additional-provider-volume-paths=/b"}, []string{"/b", main}, ""},
		"none":             {[]string{"--additional-provider-volume-paths="}, []string{main}, ""},
		"empty entries":    {[]string{"--additional-provider-volume-paths=,/a,,"}, []string{"/a", main}, ""},
		"spaces":           {[]string{"--additional-provider-volume-paths= /a , /b "}, []string{"/a", "/b", main}, ""},
		"twice the same":   {[]string{"--additional-provider-volume-paths=/a,/a/," + main}, []string{"/a", main}, ""},
		"only additional":  {[]string{"--provider-volume=", "--additional-provider-volume-paths=/a"}, []string{"/a"}, ""},
		"in another place": {[]string{"--provider-volume=/p"}, []string{extra, "/p"}, ""},
		"relative":         {[]string{"--additional-provider-volume-paths=a"}, nil, `"a" is not an absolute path`},
		"relative volume":  {[]string{"--provider-volume=./p"}, nil, `"p" is not an absolute path`},
		"nothing at all":   {[]string{"--provider-volume=", "--additional-provider-volume-paths="}, nil, "name no directory"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := node.ProviderDirs(tt.args)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("check of %q = %v, want %q", tt.args, err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); tt.err == "" && diff != "" {
				t.Errorf("directories of %q (-want +got):\n%s", tt.args, diff)
			}
		})
	}
}
