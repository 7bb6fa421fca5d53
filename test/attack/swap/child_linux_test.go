//go:build attack

package swap_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// answerTimeout is how long a child may take for one line. It is there for
// children that hang: no test depends on how fast they are.
const answerTimeout = 2 * time.Minute

// A job is what a child does.
type job struct {
	do  func(words []string) (answer string, err error) // what one line asks for
	end func() error                                    // once there are no more lines; may be nil
}

// jobs are what a started copy of the test binary can be. They begin with the
// first line, not with the process: by then it is where the test put it.
func jobs() map[string]func() (job, error) {
	return map[string]func() (job, error){
		"keeper":      newKeeperJob,
		"volumes":     newVolumesJob,
		"pager":       newPagerJob,
		"protected":   newProtectedJob,
		"unprotected": newUnprotectedJob,
		"program":     newProgramJob,
	}
}

// runChild serves until its standard input ends: whoever started it is gone.
func runChild(name string) int {
	begin, ok := jobs()[name]
	if !ok {
		fmt.Println("error: unknown job")
		return 2
	}
	// An answer that nobody waits for must not end a process that has something
	// to undo.
	signal.Ignore(syscall.SIGPIPE)
	lines := bufio.NewScanner(os.Stdin)
	var j job
	for lines.Scan() {
		var answer string
		var err error
		if j.do == nil {
			j, err = begin()
		} else {
			answer, err = j.do(strings.Fields(lines.Text()))
		}
		if err != nil {
			fmt.Printf("error: %v\n", err)
			continue
		}
		fmt.Printf("ok %s\n", answer)
	}
	if j.end == nil {
		return 0
	}
	if err := j.end(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child is a process that the test started.
type child struct {
	name   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  chan string   // what it says, a line at a time
	ended  chan struct{} // closed once it was waited for
	stderr string        // name of the file that holds its standard error
}

// born says how a child comes into the world. The zero value is a plain copy.
type born struct {
	group *cgroup // to be in before it begins; nil leaves it where the test is
	attr  syscall.SysProcAttr
}

// startChild starts a job in a process of its own, which ends with the test.
func startChild(t *testing.T, name string, b born) *child {
	t.Helper()
	stderr, err := os.Create(filepath.Join(t.TempDir(), name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "/proc/self/exe")
	// The race detector would let each child sleep for a second before it ends.
	cmd.Env = append(os.Environ(), childEnv+"="+name, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = stderr
	cmd.SysProcAttr = &b.attr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	c := &child{name: name, cmd: cmd, in: in, lines: make(chan string, 16), ended: make(chan struct{}), stderr: stderr.Name()}
	go c.listen(out)
	t.Cleanup(func() { c.stop(t) })
	if b.group != nil {
		b.group.add(t, cmd.Process.Pid)
	}
	c.ask(t, "begin")
	return c
}

func (c *child) listen(out io.Reader) {
	s := bufio.NewScanner(out)
	for s.Scan() {
		select {
		case c.lines <- s.Text():
		default: // a program that talks without being asked
		}
	}
	close(c.lines)
	_ = c.cmd.Wait()
	close(c.ended)
}

// ask tells the child to do something and returns its answer. An error of the
// child, its end or its silence ends the test.
func (c *child) ask(t *testing.T, words ...string) string {
	t.Helper()
	answer, err := c.try(words...)
	if err != nil {
		t.Fatalf("child %s, %s: %v", c.name, words[0], err)
	}
	return answer
}

func (c *child) try(words ...string) (string, error) {
	if _, err := fmt.Fprintln(c.in, strings.Join(words, " ")); err != nil {
		return "", err
	}
	select {
	case line, ok := <-c.lines:
		if answer, fine := strings.CutPrefix(line, "ok "); fine {
			return answer, nil
		}
		if !ok {
			return "", errors.New("it ended: " + c.log())
		}
		return "", errors.New(line)
	case <-time.After(answerTimeout):
		return "", fmt.Errorf("no answer within %v", answerTimeout)
	}
}

// log returns what it wrote to its standard error.
func (c *child) log() string {
	text, err := os.ReadFile(c.stderr)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// kill ends the child as a crash would.
func (c *child) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("kill %s: %v", c.name, err)
	}
	c.await(t)
}

// await waits for the end of the child.
func (c *child) await(t *testing.T) {
	t.Helper()
	select {
	case <-c.ended:
	case <-time.After(answerTimeout):
		t.Fatalf("child %s did not end within %v", c.name, answerTimeout)
	}
}

// stop lets the child end by itself, and ends it if it does not.
func (c *child) stop(t *testing.T) {
	t.Helper()
	_ = c.in.Close()
	select {
	case <-c.ended:
		return
	case <-time.After(stopTimeout):
	}
	t.Errorf("child %s did not end with its standard input", c.name)
	c.kill(t)
}

// stopTimeout is how long a child has to end by itself.
const stopTimeout = 30 * time.Second
