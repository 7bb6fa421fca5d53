package controlplane

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// process is a child that ends with this one.
type process struct {
	name string
	cmd  *exec.Cmd
	line *os.File // the child lives as long as this is open
	log  string   // path of what it says
	done chan struct{}
	err  error // once done is closed
}

// run starts a program of dir. Its output goes to the end of a file of its name.
func (c *ControlPlane) run(name string, args ...string) (*process, error) {
	p := &process{name: name, log: c.path(name + ".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	p.line = ours
	p.cmd = exec.Command(c.programs+"/"+name, args...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = out, out, []*os.File{theirs}
	p.cmd.Env = append(os.Environ(), "PORTCULLIS_LIFELINE=3")
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), ours.Close())
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// kill ends the process at once.
func (p *process) kill() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	_ = p.line.Close()
}

// ended reports whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// tail is the end of what the process said.
func (p *process) tail() string {
	const most = 4 << 10
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	if len(text) > most {
		text = text[len(text)-most:]
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			text = text[i+1:]
		}
	}
	return string(text)
}
