package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// narrator prints the demo in plain ASCII: it must read the same in a pipe, in
// CI and on a terminal.
type narrator struct{ out io.Writer }

func (n *narrator) line(format string, args ...any) {
	fmt.Fprintf(n.out, "    "+format+"\n", args...)
}

func (n *narrator) title(s *stage) {
	fmt.Fprintf(n.out, `Portcullis demo: a pod's secrets are decided by policy, fetched from a provider,
delivered into memory that cannot be swapped, and recorded in a log that shows
tampering.

  this program     plays kubelet: it makes the CSI calls that kubelet makes
  portcullis-node  the node plugin under demonstration, a process of its own
  provider-local   a secrets provider, a process of its own, on its socket
  working in       %s
`, s.dir)
}

func (n *narrator) step(i, of int, title, why string) {
	fmt.Fprintf(n.out, "\n[%d/%d] %s\n", i, of, title)
	for l := range strings.Lines(why) {
		fmt.Fprintf(n.out, "      %s\n", strings.TrimRight(l, "\n"))
	}
}

func (n *narrator) asTold(format string, args ...any) {
	fmt.Fprintf(n.out, "    as told: "+format+"\n", args...)
}

// logs prints the end of the processes' logs when a step went wrong.
func (n *narrator) logs(s *stage) {
	for _, p := range s.processes {
		text, err := os.ReadFile(p.logPath)
		if err != nil {
			continue
		}
		const last = 12
		lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
		fmt.Fprintf(n.out, "\n  the end of %s's log:\n", p.name)
		for _, l := range lines[max(0, len(lines)-last):] {
			fmt.Fprintf(n.out, "    %s\n", l)
		}
	}
}

func (n *narrator) end(s *stage) {
	fmt.Fprintf(n.out, "\nAll %d steps went as told.\n", len(steps()))
	if s.keep {
		fmt.Fprintf(n.out, "Kept in %s: policy/, manifests/, state/ (audit log), logs/\n", s.dir)
	}
}
