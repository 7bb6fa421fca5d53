package policies

import (
	"fmt"
	"io/fs"
	"strings"
)

// hardFindings are the denials that hold in every mode and cannot be waived.
// They are here and not in Rego so that no bundle and no mistake in the library
// can lose them.
func hardFindings(in Input, o Obligations) []Finding {
	findings := checkAsked(in)
	findings = append(findings, checkCredentials(in.SPC)...)
	findings = append(findings, checkVolumeFlags(in.Volume, o)...)
	for _, r := range in.Requests {
		findings = append(findings, checkMode(r, in.Volume)...)
	}
	return findings
}

func checkAsked(in Input) []Finding {
	if in.Contract == Contract && len(in.Requests) > 0 {
		return nil
	}
	return []Finding{{
		ID: "PR-003", Check: "contract", Severity: SeverityHigh,
		Message:     "nothing is asked for, or not in the words of " + Contract,
		Remediation: "list at least one object in the SecretProviderClass",
	}}
}

// checkCredentials: a credential in a class is readable by everybody who may
// read classes, and the provider would act with it for any pod.
func checkCredentials(s SPC) []Finding {
	if len(s.LiteralCredentials) == 0 {
		return nil
	}
	return []Finding{{
		ID: "PR-120", Check: "literal_credential", Severity: SeverityCritical,
		Message:     fmt.Sprintf("class %s holds a credential in plain text: %s", s.Name, strings.Join(s.LiteralCredentials, ", ")),
		Remediation: "remove the parameter, replace the credential, and let the provider use the pod's service account or nodePublishSecretRef",
	}}
}

func checkVolumeFlags(v Volume, o Obligations) []Finding {
	var findings []Finding
	if !v.ReadOnly {
		findings = append(findings, Finding{
			ID: "PR-102", Check: "read_only", Severity: SeverityHigh,
			Message:     fmt.Sprintf("volume %s is not read-only", v.Name),
			Remediation: "set readOnly: true on the csi volume of the pod",
		})
	}
	if g := o.RequiredFSGroup; g != nil && (v.VolumeMountGroup == nil || *v.VolumeMountGroup != *g) {
		findings = append(findings, Finding{
			ID: "PR-110", Check: "required_fs_group", Severity: SeverityHigh,
			Message:     fmt.Sprintf("volume %s has to belong to group %d", v.Name, *g),
			Remediation: fmt.Sprintf("set securityContext.fsGroup: %d in the pod", *g),
		})
	}
	return findings
}

// checkMode refuses modes that no file of the volume can have. Write bits are
// left to Grant.FileMode, which drops them, since manifests say 0600 and 0644.
func checkMode(r Request, v Volume) []Finding {
	if r.Mode == nil || *r.Mode == 0 {
		return nil
	}
	asked, ceiling := fs.FileMode(*r.Mode), hardCeiling(v)
	if r.UID != nil {
		ceiling = modeOwnerOnly
	}
	if asked&^writeBits&^ceiling == 0 && asked&ceiling != 0 {
		return nil
	}
	return []Finding{{
		ID: "PR-100", Check: "file_mode", Severity: SeverityHigh, Secret: r.Secret,
		Message:     fmt.Sprintf("mode 0%o of file %s is not one of reading up to 0%o", *r.Mode, r.File, uint32(ceiling)),
		Remediation: fmt.Sprintf("set filePermission of file %s to \"0%o\" or less", r.File, uint32(ceiling)),
	}}
}
