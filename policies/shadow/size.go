package shadow

import "github.com/portcullis-csi/portcullis/policies"

const (
	// fixedBytes is what a decision takes without its texts and lists.
	fixedBytes = 1024
	// itemBytes is what an item of a list or a map takes beside its texts: the
	// largest, a container, has this much in fields.
	itemBytes = 192
)

// sizeOf says how much memory a queued decision keeps from being freed, roughly,
// without encoding it: that would cost the caller as much as a part of the
// decision did.
func sizeOf(d policies.Decision) int {
	n := fixedBytes + len(d.ID) + len(d.BundleDigest) + len(d.LibraryDigest) + len(d.InputSHA256)
	n += ofFindings(d.Deny) + ofFindings(d.Warn) + ofTexts(d.Waivers) + ofTexts(d.Grants) + ofTexts(d.Obligations.Audiences)
	in := d.Input()
	n += len(in.Contract) + len(in.Phase) + len(in.Cluster) + ofSubject(in.Subject) + ofPod(in.Pod) + ofSPC(in.SPC)
	n += len(in.Volume.Name) + len(in.Volume.NodePublishSecretRef) + ofTexts(in.Volume.Overrides)
	for _, t := range in.Tokens {
		n += itemBytes + len(t.Audience)
	}
	if in.Requester != nil {
		n += itemBytes + len(in.Requester.Username) + ofTexts(in.Requester.Groups)
	}
	for _, r := range in.Requests {
		n += itemBytes + len(r.Secret) + len(r.File) + len(r.ParseError)
		for _, s := range r.Sync {
			n += itemBytes + len(s.Name) + len(s.Type) + len(s.Key)
		}
	}
	return n
}

func ofSubject(s policies.Subject) int {
	return len(s.Namespace) + len(s.ServiceAccount) + len(s.PodName) + len(s.PodUID) + len(s.Node) +
		ofMap(s.NamespaceLabels) + ofMap(s.ServiceAccountAnnotations)
}

func ofPod(p policies.Pod) int {
	n := itemBytes*len(p.SupplementalGroups) + ofMap(p.Labels) + ofTexts(p.HostPaths)
	if p.Owner != nil {
		n += itemBytes + len(p.Owner.Kind) + len(p.Owner.Name)
	}
	for _, c := range p.Containers {
		n += itemBytes + len(c.Name) + len(c.Image) + len(c.Kind) + ofTexts(c.Capabilities)
		if c.Signature != nil {
			n += itemBytes + ofTexts(c.Signature.By)
		}
	}
	return n
}

func ofSPC(s policies.SPC) int {
	return len(s.Name) + len(s.UID) + len(s.Provider) + len(s.ParametersSHA256) +
		ofMap(s.Parameters) + ofMap(s.Scoping) + ofTexts(s.LiteralCredentials)
}

func ofFindings(findings []policies.Finding) int {
	n := 0
	for _, f := range findings {
		n += itemBytes + len(f.ID) + len(f.Check) + len(f.Severity) + len(f.Secret) + len(f.Message) + len(f.Remediation)
	}
	return n
}

func ofTexts(texts []string) int {
	n := 0
	for _, t := range texts {
		n += itemBytes + len(t)
	}
	return n
}

func ofMap(m map[string]string) int {
	n := 0
	for k, v := range m {
		n += itemBytes + len(k) + len(v)
	}
	return n
}
