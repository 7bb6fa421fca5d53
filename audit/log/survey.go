package log

// surveyed is how many of an epoch's last leaves may name a rotation: it is
// followed by the end of the epoch, or by what a crash in between leaves.
const surveyed = 16

// survey reads what has to be known before the epochs are read whole: how many
// events there are, and keys that rotations name. All of it are claims, and
// what cannot be read is found, and named, later.
func (v *verification) survey(e *epochFile) error {
	f, size, err := e.open()
	if err != nil {
		return err
	}
	defer f.Close()
	pages, err := openPages(f, size)
	if err != nil {
		return nil // v.file finds it again and names it
	}
	x := &examination{ctx: v.ctx, node: v.keys.name, keys: v.keys}
	if x.readBuckets(pages) != nil || x.readMeta(pages) != nil {
		return nil
	}
	if e.number == 0 {
		e.number = x.number
	}
	v.story.total += x.size
	left := surveyed
	_ = pages.backwards(x.headers[bucketEvents], func(leaf element) bool {
		left--
		if h, ok := readHeader(leaf.value); ok && h.Type == KindRotated {
			v.chain.claimed(&boundaries{rotated: h.Log})
			return false
		}
		return left > 0
	})
	return nil
}
