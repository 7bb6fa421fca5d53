package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// Lifeline is the descriptor that the first process inherits: when the other
// end of it is closed, the node ends. It is /dev/null for a node that outlives
// its caller.
const Lifeline = 3

// Run is the first process of the node with this directory. It returns when the
// node is to end.
func Run(dir string) error {
	if os.Getpid() != 1 {
		return errors.New("this is the first process of a node; hint: start it with go run ./test/cluster up")
	}
	s, err := readSpec(dir)
	if err != nil {
		return err
	}
	line := os.NewFile(Lifeline, "lifeline")
	// Daemons must not hold the caller's end open.
	unix.CloseOnExec(Lifeline)
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := enterRoot(s); err != nil {
		return err
	}
	if err := setUpNetwork(s); err != nil {
		return err
	}
	v := newSupervisor(s)
	go v.reap()
	if err := v.serve(); err != nil {
		return err
	}
	return v.wait(line)
}

// wait returns the reason why the node ends.
func (v *supervisor) wait(line *os.File) error {
	gone := make(chan struct{})
	go func() {
		if info, err := line.Stat(); err == nil && info.Mode()&os.ModeNamedPipe == 0 {
			return // nobody to wait for
		}
		_, _ = io.Copy(io.Discard, line)
		close(gone)
	}()
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGTERM, unix.SIGINT)
	select {
	case err := <-v.died:
		return err
	case <-gone:
		return errors.New("whoever started the node has ended")
	case <-told:
		return errors.New("told to end")
	case <-time.After(v.spec.Limit):
		return fmt.Errorf("the node's time is over: it was started for %v", v.spec.Limit)
	}
}
