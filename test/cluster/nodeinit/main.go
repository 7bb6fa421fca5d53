// Command nodeinit is the first process of the lab's node and the way into it.
// Nobody calls it by hand: see package node and go run ./test/cluster.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/portcullis-csi/portcullis/test/cluster/node"
)

func main() {
	status, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "nodeinit:", err)
		status = 1
	}
	os.Exit(status)
}

func run(args []string) (int, error) {
	switch {
	case len(args) == 2 && args[0] == "run":
		return 0, node.Run(args[1])
	case len(args) > 3 && args[0] == "enter" && args[2] == "--":
		return node.Enter(args[1], args[3:])
	case len(args) > 2 && args[0] == "become" && args[1] == "--":
		return 0, node.Become(args[2:])
	}
	return 2, errors.New("usage: nodeinit run DIR | enter PID -- COMMAND")
}
