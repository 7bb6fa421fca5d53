package apiserver_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/apiserver"
)

// reads are all methods that read one object, without it.
func reads() map[string]func(context.Context, *fixture) error {
	return map[string]func(context.Context, *fixture) error{
		"pod": func(ctx context.Context, f *fixture) error {
			_, err := f.Pod(ctx, "payments", "api-0", podUID)
			return err
		},
		"namespace": func(ctx context.Context, f *fixture) error { _, err := f.Namespace(ctx, "payments"); return err },
		"service account": func(ctx context.Context, f *fixture) error {
			_, err := f.ServiceAccount(ctx, "payments", "api")
			return err
		},
		"SecretProviderClass": func(ctx context.Context, f *fixture) error { _, err := f.Class(ctx, "payments", "db"); return err },
		"CSIDriver":           func(ctx context.Context, f *fixture) error { _, err := f.CSIDriver(ctx); return err },
	}
}

// asks are all methods that ask the API server something.
func asks() map[string]func(context.Context, *fixture) error {
	all := reads()
	all["pods of this node"] = func(ctx context.Context, f *fixture) error {
		exists, err := f.PodExists(ctx, otherUID)
		if err == nil && !exists {
			return errors.New("the pod was said not to exist")
		}
		return err
	}
	all["token signing keys"] = func(ctx context.Context, f *fixture) error { _, err := f.JWKS(ctx); return err }
	all["token issuer"] = func(ctx context.Context, f *fixture) error { _, err := f.Issuer(ctx); return err }
	return all
}

func TestReadsLive(t *testing.T) {
	f := newFixture(t)
	pod, err := f.Pod(t.Context(), "payments", "api-0", podUID)
	if err != nil || pod.UID != podUID || pod.Spec.Volumes[0].CSI.Driver != driverName || pod.Status.Phase != "Pending" {
		t.Errorf("Pod() = %+v, %v, want the pod", pod, err)
	}
	namespace, err := f.Namespace(t.Context(), "payments")
	if err != nil || namespace.Name != "payments" || namespace.Labels["team"] != "payments" {
		t.Errorf("Namespace() = %+v, %v, want the namespace", namespace, err)
	}
	account, err := f.ServiceAccount(t.Context(), "payments", "api")
	if err != nil || account.UID != "sa-uid" || account.Annotations["tier"] != "1" {
		t.Errorf("ServiceAccount() = %+v, %v, want the service account", account, err)
	}
	class, err := f.Class(t.Context(), "payments", "db")
	if err != nil || class.Spec.Provider != "local" || class.Spec.Parameters["objects"] != "- objectName: a\n" {
		t.Errorf("Class() = %+v, %v, want the class", class, err)
	}
	driver, err := f.CSIDriver(t.Context())
	if err != nil || driver.Spec.PodInfoOnMount == nil || !*driver.Spec.PodInfoOnMount {
		t.Errorf("CSIDriver() = %+v, %v, want the driver", driver, err)
	}
	versions := []string{pod.ResourceVersion, namespace.ResourceVersion, account.ResourceVersion, class.ResourceVersion, driver.ResourceVersion}
	if diff := cmp.Diff([]string{"1", "2", "3", "4", "5"}, versions); diff != "" {
		t.Errorf("resource versions differ (-want +got):\n%s", diff)
	}
	if text := fmt.Sprintf("%+v %+v %+v %+v %+v", pod, namespace, account, class, driver); strings.Contains(text, canary) {
		t.Errorf("objects = %s, want no environment, argument or annotation of kubectl", text)
	}
}

func TestHowItAsks(t *testing.T) {
	f := newFixture(t)
	for _, ask := range asks() {
		_ = ask(t.Context(), f)
	}
	got := map[string]string{}
	for _, r := range f.api.asked {
		got[r.URL.Path+"?"+r.URL.RawQuery] = r.Header.Get("Accept")
		if agent := r.UserAgent(); agent != "portcullis" {
			t.Errorf("user agent of %s = %q, want portcullis", r.URL.Path, agent)
		}
		if r.Method != http.MethodGet || r.Header.Get("Authorization") != "Bearer "+canary+"-token" {
			t.Errorf("%s %s with %q, want GET with the token", r.Method, r.URL.Path, r.Header.Get("Authorization"))
		}
	}
	const (
		plain    = "application/json"
		metadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
		list     = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	)
	// No resourceVersion anywhere: each asks for the latest state.
	want := map[string]string{
		podPath + "?": plain, namespacePath + "?": metadata, accountPath + "?": plain, classPath + "?": plain, driverPath + "?": plain,
		podsPath + "?fieldSelector=spec.nodeName%3Dnode-1&limit=100": list,
		keysPath + "?": "application/jwk-set+json, application/json", discoveryPath + "?": plain,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests and what they accept differ (-want +got):\n%s", diff)
	}
}

// checkUnavailable is what every failure has in common.
func checkUnavailable(t *testing.T, err error, object string, reason apiserver.Reason) {
	t.Helper()
	e, ok := errors.AsType[*apiserver.UnavailableError](err)
	if !ok || e.Reason != reason || !strings.HasPrefix(e.Object, object) {
		t.Fatalf("error = %v, want *UnavailableError of %q with reason %q", err, object, reason)
	}
	if errors.Is(err, kube.ErrNotFound) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Unwrap(e) != nil {
		t.Errorf("error = %#v, want one that is nothing else", err)
	}
	text := fmt.Sprintf("%v %+v %#v", err, err, e)
	if strings.Contains(text, canary) {
		t.Errorf("error = %q, want no text of the API server", text)
	}
	if !strings.Contains(err.Error(), "; hint: "+reason.Remedy()) || !strings.Contains(err.Error(), string(reason)) {
		t.Errorf("Error() = %q, want reason and remedy", err)
	}
}

func TestEveryCodeIsUnavailable(t *testing.T) {
	status := `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"` + canary + `","reason":"NotFound","code":404}`
	for code, reason := range map[int]apiserver.Reason{
		http.StatusNoContent: apiserver.InvalidAnswer, http.StatusPartialContent: apiserver.InvalidAnswer,
		http.StatusFound: apiserver.InvalidAnswer, http.StatusTemporaryRedirect: apiserver.InvalidAnswer,
		http.StatusBadRequest: apiserver.InvalidAnswer, http.StatusUnauthorized: apiserver.Unauthenticated, http.StatusForbidden: apiserver.Forbidden,
		http.StatusNotFound: apiserver.NotServed, http.StatusNotAcceptable: apiserver.InvalidAnswer, http.StatusRequestTimeout: apiserver.Timeout,
		http.StatusConflict: apiserver.InvalidAnswer, http.StatusGone: apiserver.InvalidAnswer, http.StatusUnprocessableEntity: apiserver.InvalidAnswer,
		http.StatusTooManyRequests: apiserver.Throttled, http.StatusInternalServerError: apiserver.ServerError,
		http.StatusBadGateway: apiserver.ServerError, http.StatusServiceUnavailable: apiserver.ServerError, http.StatusGatewayTimeout: apiserver.Timeout,
	} {
		t.Run(http.StatusText(code), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.api.says(code, status)
			for object, ask := range asks() {
				begin, before := time.Now(), len(f.api.asked)
				checkUnavailable(t, ask(t.Context(), f), object, reason)
				if n := len(f.api.asked) - before; n != 1 {
					t.Errorf("%s made %d requests, want one: kubelet retries", object, n)
				}
				if took := time.Since(begin); took > 3*time.Second {
					t.Errorf("%s took %v, want no wait for Retry-After", object, took)
				}
			}
			if log := f.log.String(); strings.Contains(log, canary) {
				t.Errorf("log = %s, want no text of the API server", log)
			}
		})
	}
}

func TestEveryReasonHasItsRemedy(t *testing.T) {
	seen := map[string]apiserver.Reason{}
	for _, r := range []apiserver.Reason{
		apiserver.Unauthenticated, apiserver.Forbidden, apiserver.Throttled, apiserver.ServerError,
		apiserver.Unreachable, apiserver.InvalidAnswer, apiserver.NotServed,
	} {
		if other, ok := seen[r.Remedy()]; ok {
			t.Errorf("%q and %q have the remedy %q, want one of their own", r, other, r.Remedy())
		}
		seen[r.Remedy()] = r
	}
	if apiserver.Timeout.Remedy() != apiserver.ServerError.Remedy() {
		t.Error("a timeout has another remedy than a server error, want the same")
	}
}

// Only the API server's statement about this very object is an absence.
func TestNotFound(t *testing.T) {
	f := newFixture(t)
	for _, path := range []string{podPath, namespacePath, accountPath, classPath, driverPath} {
		f.api.remove(path)
	}
	for object, read := range reads() {
		err := read(t.Context(), f)
		if !errors.Is(err, kube.ErrNotFound) || !strings.HasPrefix(err.Error(), object+` "`) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s = %v, want kube.ErrNotFound with the name", object, err)
		}
	}
	class := func() error { return reads()["SecretProviderClass"](t.Context(), f) }
	const group, resource = "secrets-store.csi.x-k8s.io", "secretproviderclasses"
	for name, body := range map[string]string{
		"no such path":          "404 page not found\n",
		"another object":        notFound(group, resource, "db2"),
		"another resource":      notFound(group, "secretproviderclasspodstatuses", "db"),
		"another group":         notFound("", resource, "db"),
		"no name":               notFound(group, resource, ""),
		"no details":            `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`,
		"another reason":        strings.Replace(notFound(group, resource, "db"), `"NotFound"`, `"Forbidden"`, 1),
		"another code":          strings.Replace(notFound(group, resource, "db"), `:404}`, `:403}`, 1),
		"a success":             strings.Replace(notFound(group, resource, "db"), "Failure", "Success", 1),
		"not a Status":          strings.Replace(notFound(group, resource, "db"), `"Status"`, `"Stat"`, 1),
		"cut off":               notFound(group, resource, "db")[:150],
		"too large":             strings.Repeat(" ", 64<<10) + notFound(group, resource, "db"),
		"a page of a proxy":     "<html>db</html>",
		"nothing":               "",
		"fields in other cases": strings.ReplaceAll(notFound(group, resource, "db"), `"details"`, `"Details"`),
	} {
		t.Run(name, func(t *testing.T) {
			f.api.says(http.StatusNotFound, body)
			checkUnavailable(t, class(), "SecretProviderClass", apiserver.NotServed)
		})
	}
	f.api.says(http.StatusNotFound, notFound(group, resource, "db"))
	if err := class(); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("Class() = %v, want kube.ErrNotFound: the bodies above differ from this one in one respect", err)
	}
}

// The author of a pod chooses the class's name.
func TestNamesAreNotPaths(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"", ".", "..", "../../secrets/db", "a/b", "a?watch=1", "a%2fb", "A", "a\x00", "ä", strings.Repeat("a", 254)} {
		for what, err := range map[string]error{
			"pod":       second(f.Pod(t.Context(), "payments", name, podUID)),
			"pod's":     second(f.Pod(t.Context(), name, "api-0", podUID)),
			"namespace": second(f.Namespace(t.Context(), name)),
			"account":   second(f.ServiceAccount(t.Context(), "payments", name)),
			"account's": second(f.ServiceAccount(t.Context(), name, "api")),
			"class":     second(f.Class(t.Context(), "payments", name)),
			"class's":   second(f.Class(t.Context(), name, "db")),
		} {
			if !errors.Is(err, kube.ErrNotFound) {
				t.Errorf("%s of %q = %v, want kube.ErrNotFound", what, name, err)
			}
		}
	}
	if n := len(f.api.asked); n != 0 {
		t.Errorf("%d requests, want none", n)
	}
}

func second[T any](_ T, err error) error { return err }
