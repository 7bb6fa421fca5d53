package policies

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

const (
	maxFindings     = 1024
	maxFindingBytes = 16 << 10
)

// result is what the entrypoint returns.
type result struct {
	Contract    string         `json:"contract"`
	Verdict     Verdict        `json:"verdict"`
	Mode        Mode           `json:"mode"`
	Deny        []Finding      `json:"deny"`
	Warn        []Finding      `json:"warn"`
	Waivers     []string       `json:"waivers"`
	Grants      []string       `json:"grants"`
	Obligations map[string]any `json:"obligations"`
}

// adopt takes over what policy says, adds what holds whatever policy says, and
// sets the verdict. A result that this engine does not understand in full is an
// error: it may hold a condition that would be lost.
func (d *Decision) adopt(raw any) error {
	text, err := json.Marshal(raw)
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	var r result
	if err := decodeOwn(text, &r); err != nil {
		return fmt.Errorf("decode result: %w", err)
	}
	if err := r.check(); err != nil {
		return err
	}
	if d.Obligations, err = readObligations(r.Obligations); err != nil {
		return err
	}
	d.Mode, d.Waivers, d.Grants = r.Mode, r.Waivers, r.Grants
	d.Warn = sortFindings(r.Warn)
	d.Deny = sortFindings(append(r.Deny, hardFindings(d.input, d.Obligations)...))
	switch {
	case len(d.Deny) > 0:
		d.verdict = VerdictDeny
	case r.Verdict == VerdictAllow:
		d.verdict = VerdictAllow
	default:
		return errors.New("policy denies without a finding")
	}
	return nil
}

func (r result) check() error {
	switch {
	case r.Contract != Contract:
		return fmt.Errorf("result has contract %q", r.Contract)
	case r.Verdict != VerdictAllow && r.Verdict != VerdictDeny:
		return fmt.Errorf("result has verdict %q", r.Verdict)
	case r.Mode != ModeEnforce && r.Mode != ModeMonitor:
		return fmt.Errorf("result has mode %q", r.Mode)
	case r.Verdict == VerdictAllow && len(r.Deny) > 0:
		return errors.New("policy allows in spite of a denial")
	case len(r.Deny)+len(r.Warn) > maxFindings:
		return fmt.Errorf("result has more than %d findings", maxFindings)
	}
	for _, f := range slices.Concat(r.Deny, r.Warn) {
		if err := f.check(); err != nil {
			return err
		}
	}
	return nil
}

func (f Finding) check() error {
	if !rulePattern.MatchString(f.ID) {
		return fmt.Errorf("finding of check %q has no id of its own: ids of bundles are %s to PR-999", f.Check, firstOwnRule)
	}
	switch f.Severity {
	case SeverityInfo, SeverityLow, SeverityMedium, SeverityHigh, SeverityCritical:
	default:
		return fmt.Errorf("finding %s has severity %q", f.ID, f.Severity)
	}
	if f.Check == "" || f.Message == "" {
		return fmt.Errorf("finding %s has no check or no message", f.ID)
	}
	if len(f.Check)+len(f.Message)+len(f.Remediation)+len(f.Secret) > maxFindingBytes {
		return fmt.Errorf("finding %s is larger than %d bytes", f.ID, maxFindingBytes)
	}
	return nil
}

func sortFindings(findings []Finding) []Finding {
	slices.SortFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Secret, b.Secret), cmp.Compare(a.Check, b.Check), cmp.Compare(a.Message, b.Message))
	})
	return findings
}

// readObligations decodes obligations and refuses every key and value that this
// engine could not enforce.
func readObligations(raw map[string]any) (Obligations, error) {
	text, err := json.Marshal(raw)
	if err != nil {
		return Obligations{}, fmt.Errorf("encode obligations: %w", err)
	}
	o := Obligations{OnRevoke: OnLossScrub, OnExpire: OnLossKeep}
	if err := decodeOwn(text, &o); err != nil {
		return Obligations{}, fmt.Errorf("decode obligations: %w", err)
	}
	return o, o.check()
}

func (o Obligations) check() error {
	for name, loss := range map[string]OnLoss{"on_revoke": o.OnRevoke, "on_expire": o.OnExpire} {
		if loss != OnLossKeep && loss != OnLossScrub {
			return fmt.Errorf("obligation %s is %q, not keep or scrub", name, loss)
		}
	}
	switch {
	case o.MaxFileMode != nil && *o.MaxFileMode&^uint32(ceilingWithoutGroup) != 0:
		return fmt.Errorf("obligation max_file_mode is %#o, not read bits", *o.MaxFileMode)
	case o.RequiredFSGroup != nil && !validID(*o.RequiredFSGroup):
		return fmt.Errorf("obligation required_fs_group is %d", *o.RequiredFSGroup)
	case o.TTLSeconds < 0 || o.MaxStaleSeconds < 0 || o.AuditLevel < 0 || o.AuditLevel > 2:
		return errors.New("obligation ttl_seconds, max_stale_seconds or audit_level is out of range")
	case o.Audiences != nil && len(o.Audiences) == 0:
		return errors.New("obligation audiences is empty")
	}
	return nil
}
