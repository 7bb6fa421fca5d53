package lab

import "time"

// What tests of internals may reach.
type (
	Process = process
	State   = state
)

func Identify(pid int) (Process, error)         { return identify(pid) }
func (p process) Alive() bool                   { return p.alive() }
func (s state) Write(dir string) error          { return s.write(dir) }
func Read(dir string) (State, error)            { return read(dir) }
func Overridden(args, others []string) []string { return overridden(args, others) }
func MakeCgroup(mount, name string) error       { return makeCgroup(mount, name) }
func RemoveCgroup(mount, name string) error     { return removeCgroup(mount, name) }
func WriteKeys(dir string) error                { return writeKeys(dir) }
func Files(name string, sync time.Duration) map[string]string {
	l := &Lab{dir: "/dir", state: state{Name: name, Programs: Programs{Runc: "/runc-dir", CNI: "/cni-dir"}}}
	return l.files(Config{SyncFrequency: sync})
}
