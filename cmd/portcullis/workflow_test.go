package main_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"sigs.k8s.io/yaml"
)

// workflowFile is that of a policy repository.
const workflowFile = ".github/workflows/policy.yaml"

// workflow is as much of one of GitHub as the template's says. An unknown key is an
// error: what it means would not be tested.
type workflow struct {
	Name        string            `json:"name"`
	On          map[string]any    `json:"true"` // which is how YAML 1.1 reads "on"
	Permissions map[string]string `json:"permissions"`
	Defaults    struct {
		Run struct {
			Shell string `json:"shell"`
		} `json:"run"`
	} `json:"defaults"`
	Env  map[string]string `json:"env"`
	Jobs map[string]struct {
		Needs       string            `json:"needs"`
		If          string            `json:"if"`
		RunsOn      string            `json:"runs-on"`
		Environment string            `json:"environment"`
		Concurrency string            `json:"concurrency"`
		Outputs     map[string]string `json:"outputs"`
		Env         map[string]string `json:"env"`
		Steps       []step            `json:"steps"`
	} `json:"jobs"`
}

type step struct {
	Name string            `json:"name"`
	ID   string            `json:"id"`
	If   string            `json:"if"`
	Uses string            `json:"uses"`
	With map[string]string `json:"with"`
	Env  map[string]string `json:"env"`
	Run  string            `json:"run"`
}

// workflowCommands run the template's workflow.
func workflowCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){"workflow": runWorkflow, "secret": secret}
}

// secret sets a variable to the content of a file: secret VARIABLE FILE.
func secret(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: secret VARIABLE FILE")
	}
	ts.Setenv(args[0], strings.TrimSuffix(ts.ReadFile(args[1]), "\n"))
}

// runWorkflow runs the steps of a job in the order of the file, as its runner does:
// workflow JOB EVENT [BASE]. Secrets are variables of the script; a job's outputs
// become such. The job's environment decides which of them it gets: without one it
// gets none.
func runWorkflow(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: workflow JOB EVENT [BASE]")
	}
	var w workflow
	ts.Check(yaml.UnmarshalStrict([]byte(ts.ReadFile(workflowFile)), &w))
	r := runner{ts: ts, event: args[1], dir: ts.MkAbs("."), temp: filepath.Join(ts.Getenv("WORK"), "runner")}
	if len(args) == 3 {
		r.base = args[2]
	}
	ts.Check(os.MkdirAll(r.temp, 0o700))
	job, ok := w.Jobs[args[0]]
	if !ok || w.Defaults.Run.Shell != "bash" {
		ts.Fatalf("there is no job %s, or its shell is not bash", args[0])
	}
	err := error(nil)
	if r.holds(job.If) {
		r.secrets = job.Environment != ""
		// What the steps before have logged in to does not outlive its runner.
		ts.Check(os.RemoveAll(filepath.Join(ts.Getenv("HOME"), ".docker")))
		err = r.run(job.Steps, w.Env, job.Env)
	}
	_, _ = ts.Stdout().Write(r.out.Bytes())
	if neg != (err != nil) {
		ts.Fatalf("job %s: %v\n%s", args[0], err, r.out.String())
	}
	for name, value := range job.Outputs {
		if err != nil {
			break // it has none
		}
		ts.Setenv("needs."+args[0]+".outputs."+name, r.expand(value))
	}
}

// runner is one that a job is alone on.
type runner struct {
	ts          *testscript.TestScript
	event, base string
	dir, temp   string
	secrets     bool // the job's environment has some
	outputs     map[string]string
	out         bytes.Buffer
}

// holds evaluates the conditions that there are.
func (r *runner) holds(condition string) bool {
	switch condition {
	case "":
		return true
	case "github.event_name == 'pull_request'":
		return r.event == "pull_request"
	case "github.event_name != 'pull_request'":
		return r.event != "pull_request"
	}
	r.ts.Fatalf("nobody here evaluates the condition %q", condition)
	return false
}

var expression = regexp.MustCompile(`\$\{\{ *([^ }]+) *\}\}`)

// expand replaces expressions by what the script says, or a step before.
func (r *runner) expand(text string) string {
	return expression.ReplaceAllStringFunc(text, func(e string) string {
		name := expression.FindStringSubmatch(e)[1]
		switch {
		case name == "github.base_ref":
			return r.base
		case strings.HasPrefix(name, "secrets."):
			if !r.secrets {
				return ""
			}
			return r.ts.Getenv(name)
		case strings.HasPrefix(name, "steps."):
			return r.outputs[name]
		case strings.HasPrefix(name, "needs."):
			return r.ts.Getenv(name)
		}
		r.ts.Fatalf("nobody here knows the expression %s", e)
		return ""
	})
}

func (r *runner) run(steps []step, env ...map[string]string) error {
	r.outputs = map[string]string{}
	for _, s := range steps {
		if !r.holds(s.If) {
			continue
		}
		if expression.MatchString(s.Run) {
			return fmt.Errorf("step %q writes an expression into a script, where whoever chooses its value chooses commands", s.Name)
		}
		if err := r.step(s, append(slices.Clone(env), s.Env)); err != nil {
			return fmt.Errorf("step %q: %w", s.Name, err)
		}
	}
	return nil
}

var pinned = regexp.MustCompile(`^actions/checkout@[0-9a-f]{40}$`)

func (r *runner) step(s step, env []map[string]string) error {
	if s.Uses != "" {
		if !pinned.MatchString(s.Uses) {
			return fmt.Errorf("%s is not pinned to a commit, or nobody here plays it", s.Uses)
		}
		return r.checkout(s.With)
	}
	output := filepath.Join(r.temp, "output")
	if err := os.WriteFile(output, nil, 0o600); err != nil {
		return err
	}
	cmd := exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", s.Run)
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.dir, &r.out, &r.out
	cmd.Env = []string{"RUNNER_TEMP=" + r.temp, "GITHUB_OUTPUT=" + output, "GITHUB_STEP_SUMMARY=" + filepath.Join(r.ts.Getenv("WORK"), "summary")}
	all := map[string]string{}
	for _, e := range env {
		maps.Copy(all, e)
	}
	for name, value := range all {
		cmd.Env = append(cmd.Env, name+"="+r.expand(value))
	}
	for _, name := range []string{"HOME", "PATH", "SSL_CERT_FILE", "TMPDIR", "REGISTRY"} {
		cmd.Env = append(cmd.Env, name+"="+r.ts.Getenv(name)) // REGISTRY in place of the example's
	}
	if err := cmd.Run(); err != nil {
		return err
	}
	text, err := os.ReadFile(output)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		r.outputs["steps."+s.ID+".outputs."+name] = value
	}
	return err
}

// checkout is of a commit that this machine has: the job's own is there already.
func (r *runner) checkout(with map[string]string) error {
	if len(with) == 0 {
		return nil
	}
	path := filepath.Join(r.dir, with["path"])
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	cmd := exec.Command("git", "clone", "--quiet", "--branch", r.expand(with["ref"]), ".", path)
	cmd.Dir, cmd.Stderr = r.dir, &r.out
	return cmd.Run()
}
