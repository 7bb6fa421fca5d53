package daemon

import (
	"fmt"

	"github.com/spf13/pflag"
)

// AuditFlags are the flags of the audit log's size.
type AuditFlags struct {
	RetentionBytes int64
	EpochBytes     int64
}

// Add defines the flags.
func (o *AuditFlags) Add(f *pflag.FlagSet) {
	f.Int64Var(&o.RetentionBytes, "audit-retention-bytes", 1<<30, "room for the audit log on the disk, in bytes; the oldest epoch is deleted first. A tenth more is for the inputs of decisions")
	f.Int64Var(&o.EpochBytes, "audit-epoch-bytes", 64<<20, "size at which a file of the audit log ends and the next one begins, in bytes: 1 MiB or more, and at most half of --audit-retention-bytes. Refusals of one namespace may fill a quarter of it, and are counted beyond that")
}

// Check refuses sizes that no log can have; hint says where the flags are told.
func (o *AuditFlags) Check(hint string) error {
	if o.EpochBytes < 1<<20 || o.EpochBytes > o.RetentionBytes/2 {
		return Misuse(fmt.Sprintf("--audit-epoch-bytes %d is below 1 MiB or more than half of --audit-retention-bytes %d", o.EpochBytes, o.RetentionBytes), hint)
	}
	return nil
}
