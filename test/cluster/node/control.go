package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// Request asks the first process for something. Exactly one field is set,
// except for Signal, which goes with Stop and is SIGKILL otherwise.
type Request struct {
	Start  string         `json:",omitempty"`
	Stop   string         `json:",omitempty"`
	Signal syscall.Signal `json:",omitempty"`
	Status bool           `json:",omitempty"`
}

// Reply is the answer to a Request.
type Reply struct {
	Error string         `json:",omitempty"`
	Pids  map[string]int // of the daemons that run, as the node numbers them
}

// Ask sends a request to the node with this directory.
func Ask(ctx context.Context, dir string, r Request) (Reply, error) {
	var reply Reply
	conn, err := new(net.Dialer).DialContext(ctx, "unix", Socket(dir))
	if err != nil {
		return reply, fmt.Errorf("ask the node: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return reply, fmt.Errorf("ask the node: %w", err)
	}
	if err := json.NewDecoder(conn).Decode(&reply); err != nil {
		return reply, errors.Join(ctx.Err(), fmt.Errorf("read the node's answer: %w", err))
	}
	if reply.Error != "" {
		return reply, errors.New(reply.Error)
	}
	return reply, nil
}

// serve answers requests until the node ends.
func (v *supervisor) serve() error {
	l, err := new(net.ListenConfig).Listen(context.Background(), "unix", Socket(v.spec.Dir))
	if err != nil {
		return err
	}
	if err := os.Chmod(Socket(v.spec.Dir), 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				v.died <- fmt.Errorf("accept on the control socket: %w", err)
				return
			}
			go v.answer(conn)
		}
	}()
	return nil
}

func (v *supervisor) answer(conn net.Conn) {
	defer conn.Close()
	var r Request
	var reply Reply
	err := json.NewDecoder(conn).Decode(&r)
	if err == nil {
		err = v.do(r)
	}
	if err != nil {
		reply.Error = err.Error()
	}
	reply.Pids = v.pids()
	_ = json.NewEncoder(conn).Encode(reply)
}

func (v *supervisor) do(r Request) error {
	switch {
	case r.Start != "":
		return v.start(r.Start)
	case r.Stop != "":
		if r.Signal == 0 {
			r.Signal = syscall.SIGKILL
		}
		return v.stop(r.Stop, r.Signal)
	case r.Status:
		return nil
	}
	return errors.New("empty request; hint: set one of Start, Stop and Status")
}
