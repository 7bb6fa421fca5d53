package audit

import "math"

const (
	// sharePart of an epoch's bytes may hold refusals of one namespace.
	sharePart = 4
	// claimedPart may hold those that only claim to be of that namespace: what
	// nobody has confirmed must leave room for what was.
	claimedPart = 8
	// inputsPart of an epoch's bytes is how much of their inputs may be kept.
	inputsPart = 40
	// maxAccounts bounds the memory. See open.
	maxAccounts = 1024
)

// Epochs is an Appender whose log is a sequence of epochs. Without it no
// namespace has a share, and every refusal is listed.
type Epochs interface {
	// Epoch returns the number of the epoch that takes events now, which only
	// grows, and how many bytes it may have. It does not wait for the disk.
	Epoch() (number, limit int64)
}

// account is who refusals are charged to.
type account struct {
	namespace string // as in the event: bounded by its rule
	claimed   bool   // and not confirmed
}

// spent is what an account has used of the epoch.
type spent struct{ events, inputs int64 }

// shares keeps refusals of one namespace from filling the log. It is guarded by
// the recorder's mutex.
type shares struct {
	epoch, limit int64
	accounts     map[account]spent
}

func newShares() *shares { return &shares{accounts: map[account]spent{}} }

// enter begins anew where the log did.
func (s *shares) enter(epoch, limit int64) {
	if epoch > s.epoch {
		s.epoch = epoch
		clear(s.accounts)
	}
	s.limit = limit
}

// take charges an event to its account, unless that is beyond the share.
func (s *shares) take(a account, bytes int64) bool {
	if s.limit <= 0 {
		return true
	}
	mine := s.open(a)
	other := s.accounts[account{a.namespace, !a.claimed}]
	if mine.events+other.events+bytes > s.limit/sharePart || a.claimed && mine.events+bytes > s.limit/claimedPart {
		return false
	}
	mine.events += bytes
	s.accounts[a] = mine
	return true
}

// add charges what is in the log already.
func (s *shares) add(a account, bytes int64) {
	mine := s.open(a)
	mine.events += bytes
	s.accounts[a] = mine
}

// takeInput charges the input of an event that is listed.
func (s *shares) takeInput(a account, bytes int64) bool {
	if s.limit <= 0 {
		return true
	}
	mine := s.open(a)
	if mine.inputs+bytes > s.limit/inputsPart {
		return false
	}
	mine.inputs += bytes
	s.accounts[a] = mine
	return true
}

// giveBack undoes a charge for what is not in the log and will not be.
func (s *shares) giveBack(a account, epoch, bytes int64) {
	mine, ok := s.accounts[a]
	if !ok || epoch != s.epoch {
		return
	}
	mine.events = max(mine.events-bytes, 0)
	s.accounts[a] = mine
}

// open returns the account. Where there are too many, the new one takes the
// place of the one that has used least, and its charges. So nobody gets a share
// anew by way of others, and as all accounts together hold at most an epoch,
// that charge is at most limit/maxAccounts, far below a share: whoever was quiet
// is listed (Metwally et al., "Efficient Computation of Frequent and Top-k
// Elements in Data Streams", 2005).
func (s *shares) open(a account) spent {
	if have, ok := s.accounts[a]; ok || len(s.accounts) < maxAccounts {
		return have
	}
	var least account
	charge := spent{events: math.MaxInt64}
	for b, used := range s.accounts {
		if used.events < charge.events {
			least, charge = b, used
		}
	}
	delete(s.accounts, least)
	s.accounts[a] = charge
	return charge
}

// accountOf returns who an event is charged to. Only refusals are: what was
// allowed, begins, ends, alarms or takes content away is always written.
func accountOf(e Event) (_ account, refusal bool) {
	if e.Stage != "" || e.allowed() {
		return account{}, false
	}
	switch e.Type {
	case TypeMount, TypeRotate, TypeSync, TypeAdmission:
	default:
		return account{}, false
	}
	if e.Workload == nil {
		return account{}, true
	}
	return account{e.Workload.Namespace, e.Actor.Unconfirmed}, true
}

// costOf is about what leaves take in the log, and rather more than less:
// themselves, their hashes, and their share of pages and of free ones.
func costOf(leaves [][]byte) (bytes int64) {
	for _, leaf := range leaves {
		bytes += leafCost(len(leaf))
	}
	return bytes
}

func leafCost(size int) int64 { return int64(size+size/4) + 640 }
