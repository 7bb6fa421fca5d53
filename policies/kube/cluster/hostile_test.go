package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/portcullis-csi/portcullis/policies/kube"
	"github.com/portcullis-csi/portcullis/policies/kube/cluster"
)

// What each answer means to whoever asked, and that an answer which is none is
// never taken for one.
func TestEveryRefusalHasItsRemedy(t *testing.T) {
	for code, want := range map[int]string{
		0: "network", http.StatusUnauthorized: "log in again", http.StatusForbidden: "ask for the right to list pods in all namespaces",
		http.StatusNotFound: "CustomResourceDefinitions", http.StatusGone: "changed while it was read", http.StatusTooManyRequests: "readyz", http.StatusTeapot: "readyz",
	} {
		e := &cluster.RefusedError{Verb: "list", Resource: "pods", Code: code, Cause: errors.New("gone away")}
		if !strings.Contains(e.Remedy(), want) || e.Error() != e.Problem()+"; hint: "+e.Remedy() {
			t.Errorf("code %d: Error() = %s, want a remedy with %q behind the problem", code, e, want)
		}
		if cause := strings.Contains(e.Problem(), "gone away"); cause != (code == 0) {
			t.Errorf("code %d: Problem() = %s, want the cause only where no answer came", code, e.Problem())
		}
		if code != 0 && !strings.Contains(e.Problem(), fmt.Sprint(code)) {
			t.Errorf("code %d: Problem() = %s, want the code", code, e.Problem())
		}
	}
	named := &cluster.RefusedError{Verb: "get", Resource: "serviceaccounts", Namespace: "payments", Name: "api", Code: 403}
	if want := "get serviceaccounts api in namespace payments: the API server answered 403 (Forbidden)"; named.Problem() != want {
		t.Errorf("Problem() = %s, want %s", named.Problem(), want)
	}
	if want := "right to get serviceaccounts in namespace payments"; !strings.Contains(named.Remedy(), want) {
		t.Errorf("Remedy() = %s, want %s", named.Remedy(), want)
	}
}

// Names come from manifests. None of them makes the path another one.
func TestNamesStayInTheirPath(t *testing.T) {
	a := newAPI(t, nil)
	r := a.reader(t)
	for _, name := range []string{"", ".", "..", "../x", "a/b", "a%2fb", "a?limit=1", "a#b", "a b", "A", "a\x00", "a\n", strings.Repeat("a", 254), "-a", "a-"} {
		_, account := r.ServiceAccount(t.Context(), "payments", name)
		_, class := r.Class(t.Context(), "payments", name)
		_, namespace := r.Namespace(t.Context(), name)
		_, in := r.Class(t.Context(), "a/../"+name, "db")
		for _, err := range []error{account, class, namespace, in} {
			if !errors.Is(err, kube.ErrNotFound) {
				t.Errorf("%q: error = %v, want that nothing has this name", name, err)
			}
		}
	}
	for _, namespace := range []string{"a/b", "..", "A", "a.b"} {
		if err := r.Pods(t.Context(), namespace, func(*corev1.Pod) error { return nil }); !errors.Is(err, kube.ErrNotFound) {
			t.Errorf("Pods(%q) = %v, want that nothing has this name", namespace, err)
		}
	}
	if len(a.asked) != 0 {
		t.Errorf("asked %q, want nothing", a.asked)
	}
}

// Objects of one name in two places are two, and each is asked for.
func TestAnswersAreOfTheirQuestion(t *testing.T) {
	of := func(namespace, value string) answer {
		return answer{http.StatusOK, `{"kind":"ServiceAccount","apiVersion":"v1","metadata":{"name":"api","namespace":"` + namespace + `","annotations":{"v":"` + value + `"}}}`}
	}
	a := newAPI(t, map[string]answer{
		accountPath: of("payments", "1"), strings.Replace(accountPath, "payments", "shop", 1): of("shop", "2"),
		"/api/v1/namespaces/api": {http.StatusOK, `{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"api","labels":{"v":"3"}}}`},
	})
	r := a.reader(t)
	for range 2 {
		one, errOne := r.ServiceAccount(t.Context(), "payments", "api")
		two, errTwo := r.ServiceAccount(t.Context(), "shop", "api")
		three, errThree := r.Namespace(t.Context(), "api")
		if err := errors.Join(errOne, errTwo, errThree); err != nil || one.Annotations["v"]+two.Annotations["v"]+three.Labels["v"] != "123" {
			t.Errorf("answers = %v %v %v, %v, want each its own", one, two, three, err)
		}
	}
	if len(a.asked) != 3 {
		t.Errorf("asked %q, want three questions", a.asked)
	}
}

// A question that was given up is not answered for good.
func TestAnInterruptedQuestionIsAskedAgain(t *testing.T) {
	a := newAPI(t, map[string]answer{accountPath: {http.StatusOK, account}})
	r := a.reader(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.ServiceAccount(ctx, "payments", "api"); !errors.Is(err, context.Canceled) {
		t.Errorf("ServiceAccount() = %v, want context.Canceled", err)
	}
	if got, err := r.ServiceAccount(t.Context(), "payments", "api"); err != nil || got.Name != "api" {
		t.Errorf("ServiceAccount() = %v, %v, want it, asked again", got, err)
	}
}

// Lists that break off, that are of something else or that never end.
func TestListsThatAreNone(t *testing.T) {
	second := strings.Replace(podsPath, "?", "?continue=more&", 1)
	for name, test := range map[string]struct {
		answers map[string]answer
		seen    int
		code    int
	}{
		"another kind":      {map[string]answer{podsPath: {http.StatusOK, account}}, 0, 0},
		"a single pod":      {map[string]answer{podsPath: {http.StatusOK, `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}`}}, 0, 0},
		"no JSON":           {map[string]answer{podsPath: {http.StatusOK, canary}}, 0, 0},
		"half a list":       {map[string]answer{podsPath: {http.StatusOK, page("", "a:Running").body[:80]}}, 0, 0},
		"a second page 410": {map[string]answer{podsPath: page("more", "a:Running"), second: {http.StatusGone, canary}}, 1, http.StatusGone},
		"a second page 403": {map[string]answer{podsPath: page("more", "a:Running")}, 1, http.StatusForbidden},
	} {
		seen := 0
		err := newAPI(t, test.answers).reader(t).Pods(t.Context(), "payments", func(*corev1.Pod) error {
			seen++
			return nil
		})
		e, ok := errors.AsType[*cluster.RefusedError](err)
		if !ok || e.Code != test.code || e.Verb != "list" || seen != test.seen || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: Pods() = %v after %d pods, want a *RefusedError of %d after %d", name, err, seen, test.code, test.seen)
		}
	}
}

// A list of which the API server has forgotten the rest is read once more, and each
// pod is told once; one that was made anew under the same name is another.
func TestAListThatBecomesTooOldIsReadOnceMore(t *testing.T) {
	second := strings.Replace(podsPath, "?", "?continue=more&", 1)
	for name, test := range map[string]struct {
		again, rest answer
		want        string
		code        int
		asked       int
	}{
		"the whole list":         {page("", "b:Running", "c:Running"), answer{}, "abc", 0, 3},
		"another one of a name":  {answer{http.StatusOK, strings.Replace(page("", "a:Running", "c:Running").body, `"name":"a"`, `"name":"a","uid":"other"`, 1)}, answer{}, "aac", 0, 3},
		"page by page":           {page("rest", "a:Running", "b:Running"), page("", "c:Running"), "abc", 0, 4},
		"too old once more":      {page("rest", "a:Running", "b:Running"), answer{http.StatusGone, canary}, "ab", http.StatusGone, 4},
		"forbidden by then":      {answer{http.StatusForbidden, canary}, answer{}, "a", http.StatusForbidden, 3},
		"too old from the start": {answer{http.StatusGone, canary}, answer{}, "a", http.StatusGone, 3},
	} {
		a := newAPI(t, map[string]answer{podsPath: page("more", "a:Running"), second: {http.StatusGone, canary}, strings.Replace(second, "more", "rest", 1): test.rest})
		got := ""
		err := a.reader(t).Pods(t.Context(), "payments", func(p *corev1.Pod) error {
			got += p.Name
			a.mu.Lock()
			a.answers[podsPath] = test.again
			a.mu.Unlock()
			return nil
		})
		refused, _ := errors.AsType[*cluster.RefusedError](err)
		if (err == nil) != (test.code == 0) || refused != nil && refused.Code != test.code || got != test.want || len(a.asked) != test.asked {
			t.Errorf("%s: Pods() = %q, %v, asked %q, want %q, %d, %d questions", name, got, err, a.asked, test.want, test.code, test.asked)
		}
	}
	gone := newAPI(t, map[string]answer{podsPath: {http.StatusGone, canary}})
	if err := gone.reader(t).Pods(t.Context(), "payments", func(*corev1.Pod) error { return nil }); err == nil || len(gone.asked) != 1 {
		t.Errorf("Pods() of a first page that is gone = %v, asked %q, want an error at once", err, gone.asked)
	}
}

// An API server that always has one more page is left, in the end, with a hint.
func TestEndlessListsEnd(t *testing.T) {
	a := newAPI(t, map[string]answer{podsPath: page("more", "a:Running"), strings.Replace(podsPath, "?", "?continue=more&", 1): page("more", "b:Running")})
	r, n, stop := a.reader(t), 0, errors.New("seen enough")
	if err := r.Pods(t.Context(), "payments", func(*corev1.Pod) error {
		if n++; n == 50 {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) || n != 50 {
		t.Errorf("Pods() = %v after %d pods, want the error of each, which ends the list", err, n)
	}
	if testing.Short() {
		return
	}
	n = 0
	err := r.Pods(t.Context(), "payments", func(*corev1.Pod) error {
		n++
		return nil
	})
	if err == nil || n != 10_000 || !strings.Contains(err.Error(), "; hint: name one namespace") {
		t.Errorf("Pods() = %v after %d pages, want an end at 10000, and a hint", err, n)
	}
}

// A pod whose phase is not known runs, as far as anybody can say.
func TestOnlyEndedPodsAreLeftOut(t *testing.T) {
	a := newAPI(t, map[string]answer{podsPath: page("", "a:Unknown", "b:", "c:Running", "d:Succeeded", "e:Failed", "f:Pending", "g:succeeded")})
	var got []string
	if err := a.reader(t).Pods(t.Context(), "payments", func(p *corev1.Pod) error {
		got = append(got, p.Name)
		return nil
	}); err != nil || strings.Join(got, "") != "abcfg" {
		t.Errorf("Pods() = %q, %v, want all but those that have ended", got, err)
	}
}

func TestAddressesThatAreNone(t *testing.T) {
	for _, host := range []string{"https://%zz", "://", "https://a b"} {
		if _, err := cluster.New(&rest.Config{Host: host, BearerToken: canary}); err == nil || !strings.Contains(err.Error(), "find the cluster") || strings.Contains(err.Error(), canary) {
			t.Errorf("New(%q) = %v, want that it is no URL", host, err)
		}
	}
	if _, err := cluster.New(&rest.Config{Host: "https://127.0.0.1:1", TLSClientConfig: rest.TLSClientConfig{CAData: []byte("no certificate")}}); err == nil {
		t.Error("New() with a CA that is none = nil, want an error")
	}
}

// A kubeconfig that nobody has is said to be missing, with what to do.
func TestThereIsNoKubeconfig(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	if _, _, err := cluster.Load("", ""); err == nil || !strings.Contains(err.Error(), "; hint: give --kubeconfig") {
		t.Errorf("Load() = %v, want that there is none, and a hint", err)
	}
	path := filepath.Join(dir, "config")
	if err := os.WriteFile(path, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", path)
	if c, namespace, err := cluster.Load("", ""); err != nil || namespace != "payments" || c.Host != "https://127.0.0.1:1" {
		t.Errorf("Load() = %v, %s, %v, want what the environment names", c, namespace, err)
	}
}
