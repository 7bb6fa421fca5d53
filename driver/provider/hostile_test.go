package provider_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
	"github.com/portcullis-csi/portcullis/policies"
)

// response returns a decent reply for these paths, which change may spoil.
func response(change func(*v1alpha1.MountResponse), paths ...string) providertest.Handler {
	content := map[string]string{}
	for _, p := range paths {
		content[p] = canary
	}
	r := providertest.Response(content)
	if change != nil {
		change(r)
	}
	return providertest.Reply(r)
}

func file(path string) *v1alpha1.File {
	return &v1alpha1.File{Path: path, Mode: 0o644, Contents: []byte(canary)}
}

// withFile returns a reply with the granted file and one more.
func withFile(path string) providertest.Handler {
	return response(func(r *v1alpha1.MountResponse) { r.Files = append(r.Files, file(path)) }, "db-password")
}

func instead(path string) providertest.Handler { return response(nil, path) }

func versions(change func(*v1alpha1.ObjectVersion)) providertest.Handler {
	return response(func(r *v1alpha1.MountResponse) { change(r.ObjectVersion[0]) }, "db-password")
}

func mode(m int32) providertest.Handler {
	return response(func(r *v1alpha1.MountResponse) { r.Files[0].Mode = m }, "db-password")
}

// row is a reply, and how it is refused.
type row struct {
	handler providertest.Handler
	want    provider.Reason
	says    string // part of the error text
}

// hostile lists replies to a request for db-password.
func hostile() map[string]row {
	rows := map[string]row{
		"extra file":         {withFile("other"), provider.BeyondGrant, `1 not asked for`},
		"renamed file":       {instead("db-passwort"), provider.BeyondGrant, `"db-password" is missing, 1 not asked for`},
		"directory of it":    {instead("db-password/x"), provider.BeyondGrant, `"db-password" is missing`},
		"65 files":           {manyFiles(65), provider.BeyondGrant, `more than 64 files`},
		"duplicate":          {withFile("db-password"), provider.ReplyInvalid, `occurs twice`},
		"prefix conflict":    {withFile("db-password/x"), provider.ReplyInvalid, `both a file and a directory`},
		"empty path":         {withFile(""), provider.ReplyInvalid, `empty path`},
		"absolute path":      {withFile("/etc/passwd"), provider.ReplyInvalid, `absolute`},
		"dot dot":            {withFile("../../etc/passwd"), provider.ReplyInvalid, `begins with ".."`},
		"dot dot inside":     {withFile("a/../../b"), provider.ReplyInvalid, `shortest form`},
		"dot dot start":      {withFile("..data"), provider.ReplyInvalid, `begins with ".."`},
		"dot dot data below": {withFile("a/..data"), provider.ReplyInvalid, `begins with ".."`},
		"dot":                {withFile("."), provider.ReplyInvalid, `shortest form`},
		"not clean":          {withFile("a//b"), provider.ReplyInvalid, `shortest form`},
		"trailing slash":     {withFile("db-password/"), provider.ReplyInvalid, `shortest form`},
		"NUL":                {withFile("a\x00b"), provider.ReplyInvalid, `control characters`},
		"escape sequence":    {withFile("a\x1b[2Jb"), provider.ReplyInvalid, `control characters`},
		"long element":       {withFile(strings.Repeat("a", 256)), provider.ReplyInvalid, `255 bytes`},
		"long path":          {withFile(strings.Repeat("a/", 2100) + "b"), provider.ReplyInvalid, `4096 bytes`},
		"deep path":          {withFile("a/b/c/d/e/f/g/h/i"), provider.ReplyInvalid, `8 elements`},
		"no files":           {response(func(r *v1alpha1.MountResponse) { r.Files = nil }, "db-password"), provider.ProviderWroteItself, `no files`},
		"no versions":        {response(func(r *v1alpha1.MountResponse) { r.ObjectVersion = nil }, "db-password"), provider.ReplyInvalid, `no object versions`},
		"empty reply":        {providertest.Reply(&v1alpha1.MountResponse{}), provider.ReplyInvalid, `no object versions`},
		"mode without read":  {mode(0o222), provider.ReplyInvalid, `nobody a right to read`},
		"mode too wide":      {mode(0o10000), provider.ReplyInvalid, `07777`},
		"negative mode":      {mode(-1), provider.ReplyInvalid, `07777`},
		"long version":       {versions(func(v *v1alpha1.ObjectVersion) { v.Version = strings.Repeat("v", 1025) }), provider.ReplyInvalid, `1024 bytes`},
		"version with ESC":   {versions(func(v *v1alpha1.ObjectVersion) { v.Version = "\x1b]0;" + canary }), provider.ReplyInvalid, `control characters`},
		"id with newline":    {versions(func(v *v1alpha1.ObjectVersion) { v.Id = "a\n" + canary }), provider.ReplyInvalid, `control characters`},
		"many versions":      {manyVersions(257), provider.ReplyInvalid, `256 object versions`},
		"error code":         {providertest.Code(canary), provider.ProviderError, `error code`},
		"error and files": {response(func(r *v1alpha1.MountResponse) { r.Error = &v1alpha1.Error{Code: canary} }, "db-password"),
			provider.ProviderError, "error code"},
		"no message":       {providertest.Raw(nil), provider.ReplyInvalid, `no object versions`},
		"not protobuf":     {providertest.Raw([]byte(canary)), provider.ReplyInvalid, `protocol`},
		"lying length":     {providertest.Raw([]byte{0x1a, 0xff, 0x01, 0x0a}), provider.ReplyInvalid, `protocol`},
		"group":            {providertest.Raw([]byte{0x23, 0x24}), provider.ReplyInvalid, `protocol`},
		"path twice":       {providertest.Raw(fileWith(1, 1)), provider.ReplyInvalid, `field of a file occurs twice`},
		"contents twice":   {providertest.Raw(fileWith(3, 3)), provider.ReplyInvalid, `field of a file occurs twice`},
		"over-size":        {overSize(), provider.ReplyTooLarge, `too large`},
		"compressed":       {providertest.Compressed(response(nil, "db-password"), encoding.GetCompressor(gzip.Name)), provider.ReplyInvalid, `compressed`},
		"ExhaustedBackend": {providertest.Fail(codes.ResourceExhausted, canary), provider.ProviderThrottled, `throttling`},
	}
	for code, want := range map[codes.Code]provider.Reason{
		codes.PermissionDenied: provider.ProviderDenied, codes.Unauthenticated: provider.ProviderDenied,
		codes.NotFound: provider.ProviderFailed, codes.Internal: provider.ProviderFailed, codes.Unknown: provider.ProviderFailed,
		codes.DeadlineExceeded: provider.ProviderTimeout, codes.Canceled: provider.ProviderFailed,
	} {
		rows["status "+code.String()] = row{providertest.Fail(code, "cannot parse "+canary), want, "provider"}
	}
	return rows
}

func manyFiles(n int) providertest.Handler {
	return response(func(r *v1alpha1.MountResponse) {
		for i := range n - 1 {
			r.Files = append(r.Files, file(fmt.Sprintf("f%d", i)))
		}
	}, "db-password")
}

func manyVersions(n int) providertest.Handler {
	return response(func(r *v1alpha1.MountResponse) {
		for i := range n - 1 {
			r.ObjectVersion = append(r.ObjectVersion, &v1alpha1.ObjectVersion{Id: fmt.Sprintf("o%d", i)})
		}
	}, "db-password")
}

func overSize() providertest.Handler {
	return response(func(r *v1alpha1.MountResponse) {
		r.Files[0].Contents = bytes.Repeat([]byte(canary), 1<<20/len(canary)+1)
	}, "db-password")
}

// fileWith encodes a reply whose file has the given fields, each the canary.
func fileWith(numbers ...protowire.Number) []byte {
	var f []byte
	for _, n := range numbers {
		f = protowire.AppendBytes(protowire.AppendTag(f, n, protowire.BytesType), []byte(canary))
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), f)
}

// TestHostileReplies also shows that no text of a provider reaches an error or
// a log line (promise P5), and that nothing is written.
func TestHostileReplies(t *testing.T) {
	for name, tt := range hostile() {
		t.Run(name, func(t *testing.T) {
			p := providertest.New(t, tt.handler)
			var log logBuffer
			d := deliverer(t, func(c *provider.Config) {
				c.MaxReceiveBytes = 1 << 20
				c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			}, p.Dir)
			call := allowed(t, objects("db-password"))
			_, err := d.Deliver(t.Context(), call)
			if got := reasonOf(t, err); got != tt.want {
				t.Errorf("Deliver() = %v (%q), want %q", err, got, tt.want)
			}
			if !mentions(err, tt.says) {
				t.Errorf("Deliver() = %v, want a text with %q", err, tt.says)
			}
			if files := volumeOf(t, call).Files(); files != nil {
				t.Errorf("Deliver() wrote %d files, want none", len(files))
			}
			checkSilent(t, err, log.String())
		})
	}
}

// checkSilent looks for the canary in everything that a caller could print.
func checkSilent(t *testing.T, err error, log string) {
	t.Helper()
	if err == nil {
		t.Error("Deliver() = nil, want an error")
		return
	}
	var e *provider.Error
	if !errors.As(err, &e) {
		t.Fatalf("Deliver() = %T, want *provider.Error", err)
	}
	printed := strings.Join([]string{
		err.Error(), fmt.Sprintf("%v %+v %#v %q", err, err, err, err), fmt.Sprintf("%+v %#v", *e, *e),
		e.Hint(), e.MetricType(), string(e.Reason), status.Convert(err).Message(), log,
	}, "\n")
	for _, part := range []string{canary, canary[:12], canary[len(canary)-12:], "cannot parse"} {
		if strings.Contains(printed, part) {
			t.Errorf("output holds %q:\n%s", part, printed)
		}
	}
	if errors.Unwrap(err) != nil {
		t.Errorf("Unwrap() = %v, want nil", errors.Unwrap(err))
	}
	for _, r := range err.Error() + e.Hint() {
		if r < ' ' || r > '~' {
			t.Errorf("error text holds %q, want printable ASCII", r)
		}
	}
}

func TestMissingFilesAreNamedAndExtraOnesCounted(t *testing.T) {
	p := providertest.New(t, response(nil, "a", canary))
	_, err := deliverer(t, nil, p.Dir).Deliver(t.Context(), allowed(t, objects("a", "b", "c", "d", "e")))
	want := `fetch from provider "local": the files are not the granted ones: ` +
		`"b" is missing, "c" is missing, "d" is missing, 1 more are missing, 1 not asked for`
	if err == nil || err.Error() != want {
		t.Errorf("Deliver() = %v, want %s", err, want)
	}
}

func TestNamesInErrors(t *testing.T) {
	long := strings.Repeat("n", 200)
	p := providertest.New(t, response(nil, "other"))
	_, err := deliverer(t, nil, p.Dir).Deliver(t.Context(), allowed(t, objects("schlüssel", long)))
	for _, want := range []string{`"schl\u00fcssel" is missing`, `"` + long[:64] + `"... is missing`} {
		if !mentions(err, want) {
			t.Errorf("Deliver() = %v, want a text with %s", err, want)
		}
	}
	if mentions(err, long[:65]) {
		t.Errorf("Deliver() = %v, want the long name cut", err)
	}
}

// TestUnparsedGrant: a grant that names parameters in full, since nobody could
// read them, covers whatever files they stand for, but no bad path.
func TestUnparsedGrant(t *testing.T) {
	tests := map[string]struct {
		handler providertest.Handler
		want    provider.Reason
	}{
		"any files": {response(nil, "one", "two"), ""},
		"bad path":  {response(nil, "one", "../two"), provider.ReplyInvalid},
		"no files":  {response(nil), provider.ReplyInvalid},
		"no mode":   {response(func(r *v1alpha1.MountResponse) { r.Files[0].Mode = 0o200 }, canary), provider.ReplyInvalid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := providertest.New(t, tt.handler)
			call := unparsed(t)
			got, err := deliverer(t, nil, p.Dir).Deliver(t.Context(), call)
			if r := reasonOf(t, err); r != tt.want || mentions(err, canary) {
				t.Fatalf("Deliver() = %v, want %q", err, tt.want)
			}
			if tt.want == "" && (len(got.Files) != 2 || got.Files[0].Path != "one" || got.Files[0].Mode != 0o440) {
				t.Errorf("Deliver() = %+v, want one and two with mode 0440", got.Files)
			}
		})
	}
}

// unparsed returns a call whose only request is the digest of its parameters.
func unparsed(t *testing.T) provider.Call {
	t.Helper()
	e := effective(t, map[string]string{"objects": "{"})
	id := "unparsed:" + e.Digest()
	call := decided(t, fmt.Sprintf(`
- id: G-2
  owner: payments
  expiry: 2126-12-31
  namespaces: [payments]
  serviceAccounts: [api]
  provider: local
  secrets: [%q]
`, id), nil, func(in *policies.Input) {
		in.SPC.ParametersSHA256 = e.Digest()
		in.Requests = []policies.Request{{Secret: id, ParseError: "objects is not a list"}}
	})
	call.Effective = e
	return call
}

// TestBrokenConnections covers providers that stop in the middle of a reply.
func TestBrokenConnections(t *testing.T) {
	big := providertest.Files(map[string]string{"db-password": strings.Repeat(canary, 2000)})
	for _, after := range []int{1, 30, 100, 200, 5000, 20000} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			p := providertest.Start(t, providertest.Config{Handler: big, CutAfter: after})
			call := allowed(t, objects("db-password"))
			d := deliverer(t, func(c *provider.Config) { c.Timeout, c.ConnectTimeout = 3*time.Second, time.Second }, p.Dir)
			_, err := d.Deliver(t.Context(), call)
			switch got := reasonOf(t, err); got {
			case provider.ProviderUnavailable, provider.ProviderFailed, provider.ProviderTimeout:
			default:
				t.Errorf("Deliver() = %v (%q), want unavailable, failed or timeout", err, got)
			}
			if files := volumeOf(t, call).Files(); files != nil {
				t.Errorf("Deliver() wrote %d files, want none", len(files))
			}
		})
	}
}

// TestRetries: UNAVAILABLE is tried again as upstream does.
func TestRetries(t *testing.T) {
	down := providertest.Fail(codes.Unavailable, canary)
	p := providertest.New(t, providertest.InTurn(down, response(nil, "db-password")))
	if _, err := deliverer(t, nil, p.Dir).Deliver(t.Context(), allowed(t, objects("db-password"))); err != nil {
		t.Errorf("Deliver() = %v, want the second attempt to succeed", err)
	}
	if n := len(p.Calls()); n != 2 {
		t.Errorf("the provider saw %d calls, want 2", n)
	}
}

// TestStreamingAnswer: a second message in a unary call is refused.
func TestStreamingAnswer(t *testing.T) {
	twice := grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		r := providertest.Response(map[string]string{"db-password": canary})
		return errors.Join(s.SendMsg(r), s.SendMsg(r))
	})
	p := serveUnknown(t, twice)
	call := allowed(t, objects("db-password"))
	_, err := deliverer(t, nil, p).Deliver(t.Context(), call)
	if got := reasonOf(t, err); got == "" || volumeOf(t, call).Files() != nil {
		t.Errorf("Deliver() = %v with %d files, want an error and none", err, len(volumeOf(t, call).Files()))
	}
}

func TestCallerGivesUp(t *testing.T) {
	p := providertest.New(t, providertest.Hang())
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := deliverer(t, nil, p.Dir).Deliver(ctx, allowed(t, objects("db-password")))
	if got := reasonOf(t, err); got != provider.Canceled {
		t.Errorf("Deliver() = %v, want %s", err, provider.Canceled)
	}
}
