package workload_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/portcullis-csi/portcullis/policies/kube/workload"
)

// names are the workloads in a text, or the error of reading it.
func names(t *testing.T, text string) ([]string, error) {
	t.Helper()
	o, err := workload.Parse([]workload.File{{Name: "test.yaml", Text: []byte(text)}}, "payments")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, w := range o.Workloads() {
		all = append(all, w.Kind+" "+w.Namespace+"/"+w.Name)
	}
	return all, nil
}

// jsonPod is a pod as JSON, so that it may stand anywhere in YAML.
func jsonPod(name string) string {
	return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"` + name + `"},"spec":{"containers":[]}}`
}

const jsonService = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"}}`

// A manifest that hides a pod behind what only some readers take for the end of a
// document is refused: the answer would be about less than what is applied.
func TestNoDocumentIsLostWithoutAWord(t *testing.T) {
	pod := jsonPod("hidden")
	for name, text := range map[string]string{
		"JSON behind JSON":             jsonService + "\n" + pod,
		"JSON behind JSON on a line":   jsonService + pod,
		"YAML behind JSON":             jsonService + "\nkind: Pod\n",
		"dashes behind a lone CR":      "apiVersion: v1\rkind: Service\rmetadata: {name: s}\r---\r" + pod + "\r",
		"dashes behind U+2028":         "apiVersion: v1\u2028kind: Service\u2028---\u2028" + pod + "\n",
		"dashes behind U+0085":         "apiVersion: v1\u0085kind: Service\u0085---\u0085" + pod + "\n",
		"dots":                         jsonService + "\n...\n" + pod,
		"dots and text":                jsonService + "\n... # the end\n" + pod,
		"dots behind a lone CR":        jsonService + "\r...\r---\r" + pod,
		"a tag behind dashes":          jsonService + "\n--- !!map\n" + pod,
		"text behind dashes":           jsonService + "\n--- " + pod,
		"a JSON list of objects":       "[" + jsonService + "," + pod + "]",
		"a YAML list of objects":       "- " + jsonService + "\n- " + pod,
		"a kind that is written twice": `{"apiVersion":"v1","kind":"Pod","kind":"Service","metadata":{"name":"s"}}`,
	} {
		got, err := names(t, text)
		if err == nil && !slices.Contains(got, "Pod payments/hidden") {
			t.Errorf("%s: Parse() = %q and no error, want the hidden pod, or an error", name, got)
		}
		if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsGraphic(r) }) {
			t.Errorf("%s: Parse() = %q, want an error of graphic characters", name, err)
		}
	}
}

// What YAML allows between and around documents loses none of them.
func TestEveryDocumentIsRead(t *testing.T) {
	want := []string{"Pod payments/a", "Pod payments/b"}
	a, b := jsonPod("a"), jsonPod("b")
	for name, text := range map[string]string{
		"dashes":                   a + "\n---\n" + b,
		"dashes and a comment":     a + "\n--- # b follows\n" + b,
		"dashes at both ends":      "---\n" + a + "\n---\n" + b + "\n---\n",
		"DOS line ends":            a + "\r\n---\r\n" + b + "\r\n",
		"empty documents":          "---\n\n---\n# nothing\n---\n" + a + "\n---\n---\n" + b,
		"comments in front":        "# a\n" + a + "\n---\n# b\n\n" + b,
		"a last line without end":  a + "\n---\n" + strings.TrimSpace(b),
		"dashes within a text":     strings.Replace(a, `"metadata":{`, `"metadata":{"annotations":{"x":"---\n...\n"},`, 1) + "\n---\n" + b,
		"blanks behind the dashes": a + "\n---   \t\n" + b,
	} {
		if got, err := names(t, text); err != nil || !cmp.Equal(want, got) {
			t.Errorf("%s: Parse() = %q, %v, want %q", name, got, err, want)
		}
	}
}

// kubectl applies what is in a list of any kind, whatever the list is called.
func TestListsOfEveryKindAreOpened(t *testing.T) {
	deployment := `{"metadata":{"name":"web"},"spec":{"selector":{},"template":{"metadata":{},"spec":{"containers":[]}}}}`
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"PodList":                {`{"apiVersion":"v1","kind":"PodList","metadata":{},"items":[` + jsonPod("a") + `]}`, []string{"Pod payments/a"}},
		"PodList without kinds":  {`{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"a"},"spec":{"containers":[]}}]}`, []string{"Pod payments/a"}},
		"DeploymentList":         {`{"apiVersion":"apps/v1","kind":"DeploymentList","items":[` + deployment + `]}`, []string{"Deployment payments/web"}},
		"as YAML":                {"apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: a}\n  spec: {containers: []}\n- metadata: {name: b, namespace: shop}\n  spec: {containers: []}\n", []string{"Pod payments/a", "Pod shop/b"}},
		"List in PodList":        {`{"apiVersion":"v1","kind":"PodList","items":[{"apiVersion":"v1","kind":"List","items":[` + jsonPod("a") + `]}]}`, []string{"Pod payments/a"}},
		"PodList in List":        {`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"PodList","items":[` + jsonPod("a") + `]}]}`, []string{"Pod payments/a"}},
		"of a kind nobody knows": {`{"apiVersion":"example.com/v1","kind":"ThingList","items":[` + jsonPod("a") + `]}`, []string{"Pod payments/a"}},
		"empty":                  {`{"apiVersion":"v1","kind":"PodList","items":[]}`, nil},
		"a resource of that name": {
			"apiVersion: example.com/v1\nkind: AllowList\nmetadata: {name: x}\nspec: {items: [a, b]}\n", nil},
	} {
		if got, err := names(t, test.text); err != nil || !cmp.Equal(test.want, got) {
			t.Errorf("%s: Parse() = %q, %v, want %q", name, got, err, test.want)
		}
	}
	// Without items, it is counted like every kind that is not looked into.
	o := parse(t, "apiVersion: example.com/v1\nkind: AllowList\nmetadata: {name: x}\n")
	if diff := cmp.Diff(map[string]int{"AllowList.example.com": 1}, o.Ignored); diff != "" {
		t.Errorf("Ignored differs (-want +got):\n%s", diff)
	}
}

func TestListsThatAreRefused(t *testing.T) {
	nest := func(kind string, depth int) string {
		text := jsonPod("a")
		for range depth {
			text = `{"apiVersion":"v1","kind":"` + kind + `","items":[` + text + `]}`
		}
		return text
	}
	for name, test := range map[string]struct{ text, want string }{
		"typed lists nested":    {nest("PodList", 5), "nested more than 4 deep"},
		"items of texts":        {`{"apiVersion":"v1","kind":"PodList","items":["a"]}`, "no objects"},
		"items that is a text":  {`{"apiVersion":"v1","kind":"PodList","items":"a"}`, "no objects"},
		"an empty item":         {`{"apiVersion":"v1","kind":"List","items":[{}]}`, "item 1: has no apiVersion or no kind"},
		"a null item":           {`{"apiVersion":"v1","kind":"PodList","items":[null]}`, "item 1"},
		"a kind but no version": {`{"apiVersion":"v1","kind":"PodList","items":[{"kind":"Pod","metadata":{"name":"a"}}]}`, "item 1: has no apiVersion or no kind"},
		"a key twice":           {`{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"a","name":"b"}}]}`, "name"},
		"items twice":           {`{"apiVersion":"v1","kind":"PodList","items":[],"items":[` + jsonPod("a") + `]}`, "items"},
		"an unknown field":      {`{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"a"},"spec":{"hostPid":true}}]}`, `unknown field "spec.hostPid"`},
		"the second item":       {`{"apiVersion":"v1","kind":"PodList","items":[` + jsonPod("a") + `,` + jsonPod("B") + `]}`, "item 2: metadata.name"},
		"a pod twice":           {`{"apiVersion":"v1","kind":"PodList","items":[` + jsonPod("a") + `,` + jsonPod("a") + `]}`, `Pod "a" is also in`},
	} {
		if got, err := names(t, test.text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Parse() = %q, %v, want an error with %q", name, got, err, test.want)
		}
	}
	if got, err := names(t, nest("PodList", 4)); err != nil || len(got) != 1 {
		t.Errorf("Parse() of lists four deep = %q, %v, want the pod", got, err)
	}
}

// However it is written, an object costs what it costs.
func TestManyObjectsAreBounded(t *testing.T) {
	items := strings.TrimSuffix(strings.Repeat(`{"apiVersion":"v1","kind":"Service"},`, 20_001), ",")
	for name, text := range map[string]string{
		"in a list":      `{"apiVersion":"v1","kind":"List","items":[` + items + `]}`,
		"in typed lists": `{"apiVersion":"v1","kind":"ServiceList","items":[` + items + `]}`,
		"as documents":   strings.Repeat("apiVersion: v1\nkind: Service\n---\n", 20_001),
	} {
		if _, err := names(t, text); err == nil || !strings.Contains(err.Error(), "more than 20000 objects") {
			t.Errorf("%s: Parse() = %v, want that there are too many", name, err)
		}
	}
}

// Anchors are what the author means, and a bomb of them ends quickly.
func TestAnchors(t *testing.T) {
	const shared = "apiVersion: v1\nkind: Pod\nmetadata: &m {name: a, labels: &l {app: x}}\nspec: {nodeSelector: *l, containers: []}\n"
	o := parse(t, shared)
	if got := o.Workloads()[0].Pod.Spec.NodeSelector["app"]; got != "x" {
		t.Errorf("nodeSelector = %q, want what the anchor names", got)
	}
	var bomb strings.Builder
	bomb.WriteString("apiVersion: v1\nkind: Pod\na0: &a0 [x,x,x,x,x,x,x,x,x]\n")
	for i := range 9 {
		fmt.Fprintf(&bomb, "a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 9), ","))
	}
	if _, err := names(t, bomb.String()); err == nil {
		t.Error("Parse() of a bomb of anchors = nil, want an error")
	}
}

// What is no text is refused with a text.
func TestWhatIsNoManifest(t *testing.T) {
	for name, text := range map[string]string{
		"zero bytes": "apiVersion: v1\nkind: Pod\nmetadata: {name: \"a\x00b\"}\n",
		"UTF-16":     "\xff\xfea\x00p\x00i\x00",
		"not UTF-8":  "apiVersion: v1\nkind: Pod\nmetadata: {name: \"\xff\xfe\"}\n",
		"a tarball":  "\x1f\x8b\x08\x00\x00\x00\x00\x00",
		"a number":   "17\n",
		"a null":     "null\n",
		"escapes":    "\x1b]0;title\x07: x\n",
	} {
		_, err := names(t, text)
		if err == nil || !strings.Contains(err.Error(), `read manifest "test.yaml", document 1`) {
			t.Errorf("%s: Parse() = %v, want an error that names file and document", name, err)
			continue
		}
		if strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsGraphic(r) }) || len(err.Error()) > 500 {
			t.Errorf("%s: Parse() = %q, want a short error of graphic characters", name, err)
		}
	}
}
