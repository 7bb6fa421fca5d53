package docs_test

import (
	"go/ast"
	"go/build/constraint"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// starters are the packages that call what they are given from goroutines of
// their own.
var starters = []string{
	"net/http", "net/rpc", "os/signal", "testing/synctest", "golang.org/x/sync", "google.golang.org/grpc",
	"k8s.io/client-go", "github.com/rogpeppe/go-internal/testscript", "github.com/fsnotify/fsnotify",
}

// starts names the first thing in the file that makes code of ours run at the
// same time as other code of ours, or nothing.
func starts(f goFile) string {
	programs := false
	for _, i := range f.syntax.Imports {
		name := strings.Trim(i.Path.Value, "`\"")
		if slices.ContainsFunc(starters, func(s string) bool { return name == s || strings.HasPrefix(name, s+"/") }) {
			return "imports " + name
		}
		programs = programs || name == "os/exec"
	}
	return launches(f, programs)
}

// launches names the first goroutine that the file starts by a statement or by a
// method that is known for it; with programs, also a program that runs on
// or whose streams are copied meanwhile.
func launches(f goFile, programs bool) (what string) {
	// sync.WaitGroup.Go and errgroup.Group.Go; time.AfterFunc and context.AfterFunc;
	// testing.T.Parallel and testing.B.RunParallel.
	methods := []string{"Go", "AfterFunc", "Parallel", "RunParallel"}
	if programs {
		methods = append(methods, "Start", "Stdin", "Stdout", "Stderr", "StdinPipe", "StdoutPipe", "StderrPipe")
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			what = "starts a goroutine"
		case *ast.SelectorExpr:
			if slices.Contains(methods, n.Sel.Name) {
				what = "uses " + n.Sel.Name
			}
		}
		return what == ""
	})
	return what
}

// built reports whether a build with these tags and no others holds the file.
func built(t *testing.T, f goFile, tags ...string) bool {
	t.Helper()
	for _, group := range f.syntax.Comments {
		for _, c := range group.List {
			if !constraint.IsGoBuild(c.Text) || c.Pos() > f.syntax.Package {
				continue
			}
			expr, err := constraint.Parse(c.Text)
			if err != nil {
				t.Fatalf("%s: %v", f.name, err)
			}
			return expr.Eval(func(tag string) bool { return slices.Contains(tags, tag) })
		}
	}
	return true
}

// concurrency says, for each package, which file makes its tests run code of
// ours at the same time as other code of ours: a file of the package, or one of
// any package of ours that its test binary holds.
func concurrency(t *testing.T) map[string]string {
	t.Helper()
	tests, code := map[string][]goFile{}, map[string][]goFile{}
	for _, f := range goFiles(t) {
		if !built(t, f, "race", "linux") {
			continue
		}
		if strings.HasSuffix(f.name, "_test.go") {
			tests[f.dir] = append(tests[f.dir], f)
		} else {
			code[f.dir] = append(code[f.dir], f)
		}
	}
	found := map[string]string{}
	for dir := range code {
		seen, queue := map[string]bool{dir: true}, slices.Concat(code[dir], tests[dir])
		for len(queue) > 0 && found[dir] == "" {
			f := queue[0]
			queue = queue[1:]
			if what := starts(f); what != "" {
				found[dir] = f.name + " " + what
			}
			for _, i := range f.syntax.Imports {
				below, ours := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), module+"/")
				if ours && !seen[below] {
					seen[below] = true
					queue = append(queue, code[below]...)
				}
			}
		}
	}
	return found
}

// sequential are the packages that make race leaves out.
func sequential(t *testing.T) []string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^sequential='([^']*)'$`).FindStringSubmatch(read(t, "tools/race.sh"))
	if m == nil {
		t.Fatal("tools/race.sh names no sequential packages")
	}
	return strings.Fields(m[1])
}

// TestRaceLeavesOutOnlySequentialPackages: a package that starts a goroutine one
// day, or whose tests come to hold one that does, goes back under the detector.
func TestRaceLeavesOutOnlySequentialPackages(t *testing.T) {
	found := concurrency(t)
	for _, name := range sequential(t) {
		if what := found[name]; what != "" {
			t.Errorf("tools/race.sh leaves out %s, but %s; hint: take it off the list", name, what)
		}
	}
	// The rule must see what there is to see.
	for name, want := range map[string]string{
		"audit": "a goroutine", "policies/diff": "a goroutine", "driver/podstatus": "net/http", "policies/replay": "Go",
		"test/plugintest": "Stderr", "audit/tail": "a goroutine", // of a package that it imports
	} {
		if !strings.HasSuffix(found[name], want) {
			t.Errorf("concurrency of %s = %q, want one that ends in %q", name, found[name], want)
		}
	}
}

// TestFilesLeftOutByRaceAreSequential: such files start no goroutine of their own.
func TestFilesLeftOutByRaceAreSequential(t *testing.T) {
	left := 0
	for _, f := range goFiles(t) {
		if built(t, f, "race", "linux") || !built(t, f, "linux") {
			continue
		}
		left++
		if !strings.HasSuffix(f.name, "_test.go") {
			t.Errorf("%s is no test, and is left out under the race detector", f.name)
		}
		if what := launches(f, false); what != "" {
			t.Errorf("%s is left out under the race detector, but %s", f.name, what)
		}
	}
	if left == 0 {
		t.Error("found no file with the build tag !race, want some")
	}
}

// TestRaceRunsTheRest plays the script with a go command that says what it is
// asked for.
func TestRaceRunsTheRest(t *testing.T) {
	bin := t.TempDir()
	fake := "#!/bin/sh\n[ \"$1\" = list ] || { echo \"$@\"; exit; }\nprintf '" + module + "%s\\n' $PACKAGES\n"
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(fake), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "nproc"), []byte("#!/bin/sh\necho 2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	play := func(packages ...string) (string, error) {
		for i, p := range packages {
			packages[i] = "/" + p
		}
		cmd := exec.CommandContext(t.Context(), "tools/race.sh", "-run", "TestNone")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "PACKAGES="+strings.Join(packages, " "))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	want := "test -race -p 3 -run TestNone " + module + "/driver " + module + "/policies/checks\n"
	if got, err := play(append(sequential(t), "driver", "policies/checks")...); err != nil || got != want {
		t.Errorf("tools/race.sh = %q, %v, want %q", got, err, want)
	}
	if got, err := play(append(sequential(t)[1:], "driver")...); err == nil || !strings.Contains(got, sequential(t)[0]+": no such package") {
		t.Errorf("tools/race.sh without its first package = %q, %v, want a refusal", got, err)
	}
}

// TestWhatTheUnitTestsLeaveToRootIsRun: with ROOT_FOLLOWS both stages together
// run every package, with the same build tags.
func TestWhatTheUnitTestsLeaveToRootIsRun(t *testing.T) {
	// No --dry-run of test: make runs a line with $(MAKE) in it even then.
	value := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), "make", append([]string{"--no-print-directory", "--eval", "value:;@echo $(" + name + ")", "value"}, args...)...)
		cmd.Dir = root
		// Not what a make that runs this test was told.
		cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
			return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS") || strings.HasPrefix(v, "ROOT_FOLLOWS")
		})
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("make %q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := value("UNIT_PACKAGES"); got != "./..." {
		t.Errorf("make test runs the unit tests of %q, want all", got)
	}
	have := map[string]bool{}
	for _, name := range strings.Fields(value("UNIT_PACKAGES", "ROOT_FOLLOWS=1") + " " + value("ROOT_PACKAGES")) {
		have[strings.TrimPrefix(strings.TrimPrefix(name, "./"), module+"/")] = true
	}
	for _, f := range goFiles(t) {
		if strings.HasSuffix(f.name, "_test.go") && built(t, f, "linux", "insecure") && !have[f.dir] {
			t.Errorf("neither the unit stage with ROOT_FOLLOWS nor make root runs %s", f.dir)
		}
	}
	makefile := read(t, "Makefile")
	for _, command := range []string{"go test $(INSECURE) $(TESTFLAGS) $(UNIT_PACKAGES)'", "go test $(INSECURE) -count=1 $(TESTFLAGS) $(or $(ROOT_PACKAGES),"} {
		if !strings.Contains(makefile, command) {
			t.Errorf("Makefile does not run %q", command)
		}
	}
	before, after, _ := strings.Cut(read(t, ".ci/run"), "ROOT_FOLLOWS=1")
	if strings.Contains(before, "root='make root'") || !strings.Contains(after, "root='make root'") {
		t.Error(".ci/run leaves tests to make root, and does not run it afterwards")
	}
}
