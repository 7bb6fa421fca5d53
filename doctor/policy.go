package doctor

import (
	"fmt"
	"time"
)

// A bundle is warned about a week before its end, which leaves time for a review.
const lastWeek = 7 * 24 * time.Hour

// lowDisk is what an epoch of the log needs at least.
const lowDisk = 256 << 20

func policyChecks() []Check {
	return []Check{
		{"policy.bundle", OfNode, "the bundle of --policy: readable, compiles, of this contract", "it would be put in force", "FAIL: nothing is granted after the next start, and nothing changes before; n/a: no --policy was given or found", judgeBundle},
		{"policy.active", OfNode, "the bundle that the plugin last put in force, as its log says, against that of --policy", "they are the same", "WARN: they differ, and the plugin decides by the former; or nobody knows; FAIL: it never put one in force, nothing is granted", judgeActive},
		{"policy.expiry", OfNode, "not_after of the bundle", "more than a week off", "WARN: less; FAIL: over, nothing is granted", judgeExpiry},
		{"policy.signature", OfNode, "whether the bundle that the plugin last put in force is signed, as its log says", "it is", "WARN: it is not, as only development builds allow; or nobody knows", judgeSignature},
		{"log.state", OfNode, "the epochs of the audit log, by the admin socket", "the log can be read", "WARN: it was not read; FAIL: it answers with an error. Whether it is unaltered says portcullis audit verify", judgeLog},
		{"log.disk", OfNode, "free space on the disk of the state directory", "256 MiB or more", "WARN: less; FAIL: none, granting stops", judgeDisk},
	}
}

func judgeBundle(f *Facts) []Result {
	b := f.Node.Bundle
	switch {
	case b.Err != nil:
		return []Result{refused("run portcullis policy check on it", "the bundle cannot be used", b.Err)}
	case b.Value == nil:
		return []Result{na("no policy bundle was given with --policy, and none is at /policy")}
	}
	results := []Result{ok("%s compiles: revision %q, serial %d, digest %s", b.Value.Path, Printable(b.Value.Revision), b.Value.Serial, b.Value.Digest)}
	for _, w := range b.Value.Warnings {
		results = append(results, warn("run portcullis policy build to see it in the author's files", "%s", w))
	}
	return results
}

func judgeActive(f *Facts) []Result {
	a, b := f.Node.Active, f.Node.Bundle.Value
	switch {
	case a.Err != nil && f.Node.Log.Err != nil:
		return []Result{na("the log was not read, see log.state")}
	case a.Err != nil:
		return []Result{unknown("the bundle in force", a.Err)}
	case a.Value == "":
		return []Result{fail("see plugin.ready and the plugin's log", "the log has no bundle that was put in force")}
	case b != nil && b.Digest != a.Value:
		return []Result{warn("wait for --policy-poll-interval, or send SIGHUP; if it stays, see policy.bundle and the plugin's log", "the plugin put %s in force, and --policy is %s", a.Value, b.Digest)}
	}
	return []Result{ok("%s", a.Value)}
}

func judgeExpiry(f *Facts) []Result {
	b := f.Node.Bundle.Value
	if b == nil {
		return []Result{na("no bundle was read")}
	}
	return []Result{f.judgeEnd("the bundle", b.NotAfter)}
}

// judgeEnd judges the end of a bundle.
func (f *Facts) judgeEnd(what string, end time.Time) Result {
	const hint = "publish a bundle with a higher serial and a later not_after"
	at := end.UTC().Format(time.RFC3339)
	switch {
	case end.IsZero():
		return warn("set not_after in its manifest", "%s has no end, as only unsigned ones may", what)
	case !f.Now.Before(end):
		return fail(hint, "%s ended %s", what, at)
	case end.Sub(f.Now) < lastWeek:
		return warn(hint, "%s ends %s", what, at)
	}
	return ok("%s ends %s", what, at)
}

func judgeSignature(f *Facts) []Result {
	switch a := f.Node.Active; {
	case a.Err != nil && f.Node.Log.Err != nil:
		return []Result{na("the log was not read, see log.state")}
	case a.Err != nil:
		return []Result{unknown("who signed the bundle in force", a.Err)}
	case a.Value == "":
		return []Result{na("the log has no bundle that was put in force")}
	case !f.Node.Signed:
		return []Result{warn("install a release image with --policy-key, and sign with portcullis policy sign: until then whoever can write the file decides", "the bundle in force is not signed")}
	}
	return []Result{ok("the plugin has verified the bundle in force")}
}

func judgeLog(f *Facts) []Result {
	l := f.Node.Log
	switch {
	case l.Err != nil && !f.Node.Root:
		return []Result{unknown("the audit log", l.Err)}
	case l.Err != nil:
		return []Result{refused("start the plugin, or give --state-dir its directory", "the audit log in "+f.Node.StateDir, l.Err)}
	case len(l.Value) == 0:
		return []Result{fail("see docs/OPERATIONS.md, what the log refuses", "the audit log has no epoch")}
	}
	var bytes, events int64
	for _, e := range l.Value {
		bytes, events = bytes+e.Bytes, events+e.Events
	}
	since := ""
	if first := l.Value[0].From; !first.IsZero() {
		since = " since " + first.UTC().Format(time.RFC3339)
	}
	return []Result{ok("%s, %s%s in %s", plural(len(l.Value), "epoch"), plural(int(events), "event"), since, mebibytes(bytes))}
}

func judgeDisk(f *Facts) []Result {
	switch free := f.Node.FreeBytes; {
	case free.Err != nil:
		return []Result{unknown("the disk of "+f.Node.StateDir, free.Err)}
	case free.Value < 1<<20:
		return []Result{fail("make room there", "the disk of %s is full", f.Node.StateDir)}
	case free.Value < lowDisk:
		return []Result{warn("make room there: a full disk stops granting", "the disk of %s has %s left", f.Node.StateDir, mebibytes(free.Value))}
	default:
		return []Result{ok("the disk of %s has %s left", f.Node.StateDir, mebibytes(free.Value))}
	}
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
