package node

import (
	"fmt"
	"os/exec"
	"strings"
)

// setUpNetwork gives the node its addresses. There is no link to the machine:
// whatever a test does, no packet leaves.
func setUpNetwork(s Spec) error {
	// A bridge without ports, since not every kernel has dummy links.
	commands := []string{"link set lo up", "link add node0 type bridge"}
	for _, address := range s.Addresses {
		commands = append(commands, "addr add "+address+"/32 dev node0")
	}
	// A default route into nothing: some programs look for one to find out
	// which address is theirs.
	commands = append(commands, "link set node0 up", "route add default dev node0")
	for _, command := range commands {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", command, err, out)
		}
	}
	return nil
}
