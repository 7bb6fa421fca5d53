package hardening

// Answer says whether the kernel can do something.
type Answer string

// The answers. The zero Answer is unknown, which is no yes.
const (
	AnswerUnknown Answer = ""
	AnswerYes     Answer = "yes"
	AnswerNo      Answer = "no"
)

// Kernel is what the running kernel offers to volumes and to the process that
// makes them. Nothing is left behind by finding out.
type Kernel struct {
	Release  string
	MountAPI Answer // fsopen, fsmount, move_mount and mount_setattr
	Missing  string // the first of these that is missing
	Openat2  Answer
	// Fchmodat2 takes a file back for a scrub; without it that goes by /proc.
	Fchmodat2 Answer
	Noswap    Answer
	Xattr     Answer // user attributes on tmpfs, which say whose a volume is
	Landlock  int    // version of its ABI, 0 for none
	Seccomp   Answer // filters
	// Probed says that a volume was really made, as only root can; otherwise
	// Noswap and Xattr are unknown.
	Probed bool
	// Refused is why none could be made, where it is not for want of rights.
	Refused error
	// LockErr is why memory cannot be locked, nil if it can.
	LockErr error
}
