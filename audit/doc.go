// Package audit makes the events that a SIEM reads, and sees to it that they
// reach the log.
//
// An [Event] is one closed record of the schema portcullis.dev/audit/v1
// ([Schema], docs/AUDIT_EVENTS.md). Constructors make events of decisions and
// of what the node plugin does; a [Recorder] completes, checks and appends
// them. The bytes that are appended are the event: they are stored, hashed and
// shipped as they are and never encoded again.
//
// It promises that Record returns nil only for an event that is durable; that
// an owed event is tried until it is, or counted in an audit.gap event; that no
// event is appended whose every string is not a listed word, a checked name, an
// id, a digest or a path, so that neither a secret nor a provider's text has a
// field to be in; and that neither a retrying kubelet nor one namespace's
// refusals can fill the log.
//
// It does not promise that events which were owed but not yet durable survive
// the process, nor that a repeat which was counted and not written does. It
// knows nothing of files: package audit/log is where events go.
//
// The caller opens a log, makes a Recorder with [New], gives it what [Resume]
// returns and each open intent its end, asks Confirm before an effect, and calls
// Close at the end.
package audit
