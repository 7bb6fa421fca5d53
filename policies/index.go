package policies

// GrantIndex holds the grants by subject key, then by secret key, so that a
// decision looks up a handful of keys however many grants there are.
//
// Subject keys are "<namespace>/<service account>", "<namespace>/*",
// "label:<key>=<value>/<service account>" and "label:<key>=<value>/*". Secret
// keys are an id, a prefix that ends in "/", or an id without its key that ends
// in "#".
type GrantIndex map[string]map[string][]GrantRecord

// GrantRecord is one grant as the library reads it.
type GrantRecord struct {
	ID         string `json:"id"`
	Owner      string `json:"owner"`
	NotAfterNS int64  `json:"not_after_ns"`
	Provider   string `json:"provider"`
	// NamespaceLabels must all be on the namespace; the subject key holds one of them.
	NamespaceLabels map[string]string `json:"namespace_labels,omitempty"`
	// Scoping must equal the scoping parameters of the class, none more, none less.
	Scoping      map[string]string `json:"scoping"`
	Audiences    []string          `json:"audiences,omitempty"`
	MaxFileMode  *uint32           `json:"max_file_mode,omitempty"`
	OwnerUID     *int64            `json:"owner_uid,omitempty"`
	SyncTargets  []string          `json:"sync_targets,omitempty"`
	ImageSigners []string          `json:"image_signers,omitempty"`
	Pods         *PodNarrowing     `json:"pods,omitempty"`
}

// PodNarrowing restricts a grant to some of the subject's pods. It never
// identifies: whoever writes pods chooses all of it.
type PodNarrowing struct {
	OwnerKinds        []string `json:"owner_kinds,omitempty"`
	OwnerNames        []string `json:"owner_names,omitempty"`
	ImageRepositories []string `json:"image_repositories,omitempty"`
	NamePatterns      []string `json:"name_patterns,omitempty"` // a name, or a prefix and a final *
}

// WaiverIndex holds the waivers by rule id, then by "<namespace>/<service
// account>" or "<namespace>/*".
type WaiverIndex map[string]map[string][]WaiverRecord

// WaiverRecord is one waiver as the library reads it.
type WaiverRecord struct {
	ID         string  `json:"id"`
	Secret     *string `json:"secret,omitempty"` // a whole id; absent: every secret
	Reason     string  `json:"reason"`
	Ticket     string  `json:"ticket"`
	ApprovedBy string  `json:"approved_by"`
	NotAfterNS int64   `json:"not_after_ns"`
}
