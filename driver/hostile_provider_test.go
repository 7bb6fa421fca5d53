package driver_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"github.com/portcullis-csi/portcullis/audit"
	"github.com/portcullis-csi/portcullis/driver/provider"
	"github.com/portcullis-csi/portcullis/driver/provider/providertest"
)

// receiveBytes bounds replies in these tests: more than a volume holds.
const receiveBytes = 2 << 20

func boundedReplies(c *setup) {
	c.deliverer = func(d *provider.Config) { d.MaxReceiveBytes = receiveBytes }
}

// refused is a reply that nothing may come of.
type refused struct {
	answer providertest.Handler
	code   codes.Code
	says   string // our words, the hint included
	reason audit.Reason
}

// spoilt is what a decent provider would return, with other contents, changed.
func spoilt(change func(*v1alpha1.MountResponse)) providertest.Handler {
	r := providertest.Response(map[string]string{"password": spill, "user": spill})
	change(r)
	return providertest.Reply(r)
}

func oneMore(path string) providertest.Handler {
	return spoilt(func(r *v1alpha1.MountResponse) {
		r.Files = append(r.Files, &v1alpha1.File{Path: path, Mode: 0o644, Contents: []byte(spill)})
	})
}

func renamed(path string) providertest.Handler {
	return spoilt(func(r *v1alpha1.MountResponse) { r.Files[0].Path = path })
}

func withMode(mode int32) providertest.Handler {
	return spoilt(func(r *v1alpha1.MountResponse) { r.Files[0].Mode = mode })
}

func withVersion(id, version string) providertest.Handler {
	return spoilt(func(r *v1alpha1.MountResponse) {
		r.ObjectVersion = append(r.ObjectVersion, &v1alpha1.ObjectVersion{Id: id, Version: version})
	})
}

// sized makes the password so long that both files hold so many bytes.
func sized(n int) providertest.Handler {
	return spoilt(func(r *v1alpha1.MountResponse) {
		r.Files[0].Contents = bytes.Repeat([]byte(spill), n/len(spill)+1)[:n-len(spill)]
	})
}

// fieldsOfAFile encodes a reply whose one file has the given fields, each the
// spill, and whose version is in order.
func fieldsOfAFile(numbers ...protowire.Number) providertest.Handler {
	var file []byte
	for _, n := range numbers {
		file = protowire.AppendBytes(protowire.AppendTag(file, n, protowire.BytesType), []byte(spill))
	}
	return providertest.Raw(protowire.AppendBytes(protowire.AppendTag([]byte{0x0a, 0x00}, 3, protowire.BytesType), file))
}

const (
	saysInvalid   = "the reply is not acceptable"
	saysBeyond    = "the files are not the granted ones"
	hintReport    = "; hint: report it to the provider's authors"
	hintCompare   = "; hint: compare the objects of the class"
	hintSplit     = "; hint: request fewer or smaller objects"
	hintLog       = "; hint: see the provider's log"
	hintWritesAWS = "make the provider return files (AWS: --driver-writes-secrets=true)"
)

// hostileReplies lists answers to a request for the files password and user.
func hostileReplies() map[string]refused {
	rows := map[string]refused{}
	beyond := func(name, says string, answer providertest.Handler) {
		rows[name] = refused{answer, codes.Unavailable, saysBeyond + ": " + says, audit.ReasonBeyondGrant}
	}
	beyond("one file more", `1 not asked for`+hintCompare, oneMore("extra"))
	beyond("hidden file", `1 not asked for`, oneMore(".hidden"))
	beyond("another name", `"password" is missing, 1 not asked for`, renamed("passwort"))
	beyond("look-alike name", `"password" is missing, 1 not asked for`, renamed("p\u0430ssword")) // Cyrillic a
	beyond("another case", `"password" is missing, 1 not asked for`, renamed("Password"))
	beyond("below the name", `"password" is missing, 1 not asked for`, renamed("password/x"))
	beyond("one file less", `"password" is missing`, spoilt(func(r *v1alpha1.MountResponse) { r.Files = r.Files[1:] }))
	beyond("65 files", `more than 64 files`, spoilt(func(r *v1alpha1.MountResponse) {
		for i := range 63 {
			r.Files = append(r.Files, &v1alpha1.File{Path: fmt.Sprintf("%s-%d", spill, i), Mode: 0o644})
		}
	}))
	invalid := func(name, says string, answer providertest.Handler) {
		rows[name] = refused{answer, codes.Unavailable, saysInvalid + ": " + says, audit.ReasonProviderInvalid}
	}
	hostilePaths(invalid)
	invalid("mode without read bits", `the mode of "password" leaves nobody a right to read`+hintReport, withMode(0o222))
	invalid("execute only", `the mode of "password" leaves nobody a right to read`, withMode(0o111))
	invalid("setuid and no more", `the mode of "password" leaves nobody a right to read`, withMode(0o4000))
	invalid("mode beyond 07777", `a file mode beyond 07777`, withMode(0o10000))
	invalid("negative mode", `a file mode beyond 07777`, withMode(-1))
	invalid("long version", `an object id or version of more than 1024 bytes`, withVersion("o", strings.Repeat(spill, 1024/len(spill)+1)))
	invalid("version with an escape sequence", `an object id or version with control characters`, withVersion("o", "\x1b]0;"+spill+"\a"))
	invalid("id with a line feed", `an object id or version with control characters`, withVersion(spill+"\n", "v"))
	invalid("id that turns the text around", `an object id or version with control characters`, withVersion(spill+"\u202e", "v"))
	invalid("257 versions", `more than 256 object versions`, spoilt(func(r *v1alpha1.MountResponse) {
		for i := range 255 {
			r.ObjectVersion = append(r.ObjectVersion, &v1alpha1.ObjectVersion{Id: fmt.Sprintf("%s-%d", spill, i)})
		}
	}))
	invalid("no versions", `no object versions`, spoilt(func(r *v1alpha1.MountResponse) { r.ObjectVersion = nil }))
	invalid("empty reply", `no object versions`, providertest.Reply(&v1alpha1.MountResponse{}))
	invalid("not a message", `not the protocol's message`, providertest.Raw([]byte(spill)))
	invalid("length that lies", `not the protocol's message`, providertest.Raw([]byte{0x1a, 0xff, 0x01, 0x0a}))
	invalid("group", `not the protocol's message`, providertest.Raw([]byte{0x23, 0x24}))
	invalid("path twice", `a field of a file occurs twice`, fieldsOfAFile(1, 1))
	invalid("contents twice", `a field of a file occurs twice`, fieldsOfAFile(1, 3, 3))
	invalid("mode that is text", `not the protocol's message`, fieldsOfAFile(1, 2))
	invalid("compressed", `it is compressed`, providertest.Compressed(spoilt(func(*v1alpha1.MountResponse) {}), encoding.GetCompressor(gzip.Name)))

	rows["no files"] = refused{spoilt(func(r *v1alpha1.MountResponse) { r.Files = nil }), codes.Unavailable, hintWritesAWS, audit.ReasonProviderInvalid}
	rows["larger than the volume"] = refused{sized(1<<20 + 1), codes.ResourceExhausted, "the files do not fit into the volume", audit.ReasonBudgetExceeded}
	rows["larger than a reply may be"] = refused{sized(receiveBytes), codes.ResourceExhausted, "the reply is too large" + hintSplit, audit.ReasonProviderInvalid}
	providersErrors(rows)
	return rows
}

// hostilePaths are paths beside the granted ones that are refused for what
// they are, before anybody asks whether they were granted.
func hostilePaths(invalid func(name, says string, answer providertest.Handler)) {
	for path, says := range map[string]string{
		"":                               "an empty path",
		"/password":                      "an absolute path",
		"/etc/shadow":                    "an absolute path",
		"../../etc/shadow":               `a path element that begins with ".."`,
		"..":                             `a path element that begins with ".."`,
		"a/../../b":                      "a path that is not in its shortest form",
		"..data":                         `a path element that begins with ".."`,
		"..data/password":                `a path element that begins with ".."`,
		"a/..data":                       `a path element that begins with ".."`,
		"...":                            `a path element that begins with ".."`,
		".":                              "a path that is not in its shortest form",
		"./password":                     "a path that is not in its shortest form",
		"a//b":                           "a path that is not in its shortest form",
		"password/":                      "a path that is not in its shortest form",
		"a\x00b":                         "a path with control characters",
		"a\nb":                           "a path with control characters",
		"a\x1b[2Jb":                      "a path with control characters",
		"a\u0085b":                       "a path with control characters",
		"a/b/c/d/e/f/g/h/i":              "a path of more than 8 elements",
		strings.Repeat("a", 256):         "a path element of more than 255 bytes",
		strings.Repeat("a/", 2100) + "b": "a path of more than 4096 bytes",
		"password/x":                     "a path is both a file and a directory",
		"password":                       "a path occurs twice",
	} {
		invalid(fmt.Sprintf("path %.20q", path), says, oneMore(path))
	}
	invalid("path that is not UTF-8", "a path with control characters",
		providertest.Raw(append([]byte{0x0a, 0x00, 0x1a, 0x03, 0x0a, 0x01}, 0xff)))
}

// providersErrors are errors in the provider's own words, which may quote
// whatever it was working on (external-secrets#2401).
func providersErrors(rows map[string]refused) {
	const words = "cannot parse " + spill
	rows["error code"] = refused{providertest.Code(spill), codes.Unavailable, "the provider returned an error code" + hintLog, audit.ReasonProviderError}
	rows["error code beside files"] = refused{spoilt(func(r *v1alpha1.MountResponse) { r.Error = &v1alpha1.Error{Code: spill} }),
		codes.Unavailable, "the provider returned an error code" + hintLog, audit.ReasonProviderError}
	for code, want := range map[codes.Code]refused{
		codes.PermissionDenied:  {nil, codes.Unavailable, "the backend refused access", audit.ReasonProviderDenied},
		codes.Unauthenticated:   {nil, codes.Unavailable, "the backend refused access", audit.ReasonProviderDenied},
		codes.NotFound:          {nil, codes.Unavailable, "the provider returned an error" + hintLog, audit.ReasonProviderError},
		codes.InvalidArgument:   {nil, codes.Unavailable, "the provider returned an error" + hintLog, audit.ReasonProviderError},
		codes.Internal:          {nil, codes.Unavailable, "the provider returned an error" + hintLog, audit.ReasonProviderError},
		codes.Canceled:          {nil, codes.Unavailable, "the provider returned an error" + hintLog, audit.ReasonProviderError},
		codes.Code(4711):        {nil, codes.Unavailable, "the provider returned an error" + hintLog, audit.ReasonProviderError},
		codes.DeadlineExceeded:  {nil, codes.DeadlineExceeded, "no answer before the deadline", audit.ReasonDeadlineExceeded},
		codes.ResourceExhausted: {nil, codes.Unavailable, "the backend is throttling", audit.ReasonProviderUnavailable},
	} {
		want.answer = providertest.Fail(code, words)
		rows["status "+code.String()] = want
	}
}

// expectEnd compares how the last attempt of a pod ended in the log.
func (n *node) expectEnd(p pod, events int, kind audit.Type, reason audit.Reason) {
	n.t.Helper()
	own := n.podEvents(p, events)
	last := own[len(own)-1]
	if len(own) != events || last.Type != kind || last.Stage != audit.StageComplete || last.Reason != reason || len(last.Files) != 0 {
		n.t.Errorf("events = %s with %d files, want %d that end with %s %s without any", summary(own), len(last.Files), events, kind, reason)
	}
}

// TestControlWhatAProviderSaysIsFound: what the tests above look for is found
// wherever it is.
func TestControlWhatAProviderSaysIsFound(t *testing.T) {
	var s script
	n := newNode(t, s.follow)
	said := providertest.Response(map[string]string{"password": spill, "user": "app"})
	said.ObjectVersion[0].Version = spill // which goes into volumes.db and the log of events
	s.set(apiPod(), providertest.Reply(said))
	n.mustPublish(apiPod())
	n.podEvents(apiPod(), 2)
	n.clock.advance(2 * refreshInterval)
	n.mustPublish(apiPod())
	_, _ = n.stderr.Write([]byte("a line with " + spill))
	n.driver.CountForTest(spill)
	generation, err := os.Readlink(filepath.Join(n.target(apiPod()), "..data"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		filepath.Join(n.records.Dir(), "volumes.db"), filepath.Join(n.target(apiPod()), generation, "password"),
		"events", "log", "metrics", "reply",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, n.spilled(status.Error(codes.Internal, "in "+spill))); diff != "" {
		t.Errorf("found in (-want +got):\n%s", diff)
	}
}

// TestP6AWiderModeOnRotationChangesNothing: the same bytes with other modes
// are the same files.
func TestP6AWiderModeOnRotationChangesNothing(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		var s script
		n := newNode(t, protection, s.follow)
		p := apiPod()
		n.mustPublish(p)
		before := n.look(p)
		wide := providertest.Response(secretFiles())
		for _, f := range wide.GetFiles() {
			f.Mode = 0o4777
		}
		s.set(p, providertest.Reply(wide))
		n.clock.advance(2 * refreshInterval)
		n.mustPublish(p)
		after := n.look(p)
		after.Records = before.Records // fetched later
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("the mounted volume changed (-before +after):\n%s", diff)
		}
		n.expectMode(p, "password", 0o440, 2000)
	})
}

// expectMode checks a file as the pod sees it, and that its directory is not
// for others to write either.
func (n *node) expectMode(p pod, name string, want os.FileMode, gid uint32) {
	n.t.Helper()
	info, err := os.Stat(filepath.Join(n.target(p), name))
	if err != nil {
		n.t.Fatal(err)
	}
	if owner := ownerOf(n.t, info); info.Mode() != want || owner.Uid != 0 || owner.Gid != gid {
		n.t.Errorf("%s is %v %d:%d, want %v 0:%d", name, info.Mode(), owner.Uid, owner.Gid, want, gid)
	}
	for _, dir := range []string{"", "..data"} {
		info, err := os.Stat(filepath.Join(n.target(p), dir))
		if err != nil {
			n.t.Fatal(err)
		}
		if info.Mode().Perm()&0o022 != 0 || info.Mode()&(os.ModeSetuid|os.ModeSticky) != 0 {
			n.t.Errorf("directory %q is %v, want it for root alone to write", dir, info.Mode())
		}
	}
}

// TestP3AnEmptyFileIsDelivered: empty is a content, missing is not.
func TestP3AnEmptyFileIsDelivered(t *testing.T) {
	var s script
	n := newNode(t, s.follow)
	empty := map[string]string{"password": "", "user": ""}
	s.set(apiPod(), providertest.Files(empty))
	n.mustPublish(apiPod())
	if diff := cmp.Diff(empty, n.content(apiPod())); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
	// From empty to full and back is a change each time.
	for _, next := range []map[string]string{secretFiles(), empty} {
		s.set(apiPod(), providertest.Files(next))
		n.clock.advance(2 * refreshInterval)
		n.mustPublish(apiPod())
		if diff := cmp.Diff(next, n.content(apiPod())); diff != "" {
			t.Errorf("content after a rotation (-want +got):\n%s", diff)
		}
	}
}

// TestTheLargestReplyThatFits is the other side of the rows on size.
func TestTheLargestReplyThatFits(t *testing.T) {
	bothProtections(t, func(t *testing.T, protection func(*setup)) {
		var s script
		n := newNode(t, protection, s.follow, boundedReplies)
		// Each file takes whole pages, as on any tmpfs.
		largest := map[string]string{"password": strings.Repeat("x", 1<<20-os.Getpagesize()), "user": "app"}
		s.set(apiPod(), providertest.Files(largest))
		n.mustPublish(apiPod())
		if diff := cmp.Diff(largest, n.content(apiPod())); diff != "" {
			t.Error("the largest content did not arrive whole")
		}
		n.mustUnpublish(apiPod())
		n.expectNothing(apiPod())
	})
}
