package shadow

import "hash/maphash"

// set tells so many different things apart, by a hash that nobody outside can
// foresee: names that collide on purpose would make many look like one.
type set struct {
	seed  maphash.Seed
	most  int
	known map[uint64]struct{}
	full  bool // something was not added
}

func newSet(seed maphash.Seed, most int) set {
	return set{seed: seed, most: most, known: map[uint64]struct{}{}}
}

// hash keeps the parts apart: none of them ends where the next begins.
func (s *set) hash(parts []string) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	for _, part := range parts {
		maphash.WriteComparable(&h, len(part))
		_, _ = h.WriteString(part)
	}
	return h.Sum64()
}

// add reports whether the thing is new, and in the set now.
func (s *set) add(parts ...string) bool {
	sum := s.hash(parts)
	if _, known := s.known[sum]; known {
		return false
	}
	if len(s.known) >= s.most {
		s.full = true
		return false
	}
	s.known[sum] = struct{}{}
	return true
}

func (s *set) has(parts ...string) bool {
	_, known := s.known[s.hash(parts)]
	return known
}

func (s *set) len() int64 { return int64(len(s.known)) }
