package hardening

// What the tests of rules without side effects see.

type (
	// KernelOffers mirrors kernelOffers.
	KernelOffers struct {
		Noswap, SwapOn bool
		LockErr        error
	}
	// MountLine mirrors mountLine.
	MountLine struct {
		ID, Parent                        int
		Device, Root, Point, Kind, Source string
		Super                             string
	}
)

// ChooseProtection calls chooseProtection.
func ChooseProtection(s Setting, k KernelOffers) (SwapProtection, error) {
	return chooseProtection(s, kernelOffers{noswap: k.Noswap, swapOn: k.SwapOn, lockErr: k.LockErr})
}

// SwapActive calls swapActive.
func SwapActive(swaps string) bool { return swapActive(swaps) }

// LockVerdict calls lockVerdict.
func LockVerdict(lockErr error, swapOn bool) error { return lockVerdict(lockErr, swapOn) }

// CheckPath calls checkPath.
func CheckPath(p string) error { return checkPath(p) }

// Layout is what newLayout makes of files.
type Layout struct {
	Paths, Dirs, Names []string
	Entries            []FileInfo
}

// NewLayout calls newLayout.
func NewLayout(files []File, l Limits) (Layout, error) {
	p, err := newLayout(files, l)
	if err != nil {
		return Layout{}, err
	}
	out := Layout{Dirs: p.dirs, Names: p.names, Entries: p.entries()}
	for _, f := range p.files {
		out.Paths = append(out.Paths, f.Path)
	}
	return out, nil
}

// ValidateLimits calls Limits.validate.
func ValidateLimits(l Limits) error { return l.Validate() }

// NrInodes calls Limits.nrInodes.
func NrInodes(l Limits) int { return l.nrInodes() }

// ParseMountTable calls parseMountTable.
func ParseMountTable(text string) ([]MountLine, error) {
	table, err := parseMountTable(text)
	return exportLines(table), err
}

// StackAt calls stackAt.
func StackAt(text string, base int, point string) []int {
	table, err := parseMountTable(text)
	if err != nil {
		return nil
	}
	return ids(stackAt(table, base, point))
}

// Inside calls inside for the mount with this id.
func Inside(text string, id int) []int {
	table, err := parseMountTable(text)
	if err != nil {
		return nil
	}
	for _, m := range table {
		if m.id == id {
			return ids(inside(table, m))
		}
	}
	return nil
}

// MountFacts are what is read out of one line.
type MountFacts struct {
	Ours, PlainTmpfs, Noswap bool
	Size                     int64
	Limits                   Limits
}

// ReadMountLine reads the facts out of one line.
func ReadMountLine(line string) (MountFacts, error) {
	m, err := parseMountLine(line)
	if err != nil {
		return MountFacts{}, err
	}
	_, noswap := m.option("noswap")
	return MountFacts{Ours: m.ours(), PlainTmpfs: m.plainTmpfs(), Noswap: noswap, Size: m.sizeBytes(), Limits: limitsOf(m)}, nil
}

func ids(lines []mountLine) []int {
	var list []int
	for _, m := range lines {
		list = append(list, m.id)
	}
	return list
}

func exportLines(table []mountLine) []MountLine {
	var list []MountLine
	for _, m := range table {
		list = append(list, MountLine{m.id, m.parent, m.device, m.root, m.point, m.kind, m.source, m.super})
	}
	return list
}

// UpTo allows a volume so many bytes in all.
func UpTo(most int64) func(int64) error {
	return func(total int64) error {
		if total > most {
			return errNotAllowed
		}
		return nil
	}
}

// BeyondConfinement judges the status file of a thread that is to have these
// capabilities and no others.
func BeyondConfinement(status string, keep uint64) string {
	t, err := parseThread(status)
	if err != nil {
		return err.Error()
	}
	return t.beyond(capabilities(keep))
}

// ChooseCapabilities calls Profile.choose.
func ChooseCapabilities(p Profile, have uint64) ([]string, error) {
	keep, err := p.choose(capabilities(have))
	return keep.names(), err
}

// CapabilityNames returns the names of a set.
func CapabilityNames(set uint64) []string { return capabilities(set).names() }
