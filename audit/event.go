package audit

import (
	"time"

	"github.com/portcullis-csi/portcullis/policies"
)

// SchemaID names the schema of every event. Within v1 fields and words are
// only ever added.
const SchemaID = "portcullis.dev/audit/v1"

// MaxEventBytes is the size of the largest event. What needs more continues in
// parts.
const MaxEventBytes = 32 << 10

// Event is one audit event. The check tags name the rule that Validate applies
// to a string; a string field without one fails the tests.
type Event struct {
	Schema      string     `json:"schema" check:"schema"`              // always this word
	ID          string     `json:"id" check:"uuid"`                    // UUIDv7: receivers drop a second copy by it
	Time        time.Time  `json:"time"`                               // when the recorder took the event, UTC
	Code        Code       `json:"code" check:"code"`                  // of type and outcome, never reused
	Type        Type       `json:"type" check:"type"`                  // what happened
	Stage       Stage      `json:"stage,omitempty" check:"stage"`      // intent: an event with this id as parentId ends it
	ParentID    string     `json:"parentId,omitempty" check:"uuid"`    // the event that this one ends or counts
	Part        *Part      `json:"part,omitempty"`                     // set if the lists did not fit into one event
	Outcome     Outcome    `json:"outcome" check:"outcome"`            // unknown on an intent: its end says
	Severity    Severity   `json:"severity" check:"severity"`          // of a denial: that of its gravest rule
	Reason      Reason     `json:"reason,omitempty" check:"reason"`    // why, where it is not a success
	Actor       Actor      `json:"actor"`                              // who asked
	Workload    *Workload  `json:"workload,omitempty"`                 // the pod and its volume
	Class       *Class     `json:"class,omitempty"`                    // the SecretProviderClass
	Secrets     []Secret   `json:"secrets,omitempty"`                  // what was asked for
	Files       []File     `json:"files,omitempty"`                    // what was delivered
	Policy      *Policy    `json:"policy,omitempty"`                   // what decided, and how
	Seen        *Seen      `json:"seen,omitempty"`                     // which versions of the API objects the decision was made from
	Rotation    *Rotation  `json:"rotation,omitempty"`                 // of secret.rotate with new content
	Change      *Change    `json:"change,omitempty"`                   // of policy.change and config.change
	Log         *LogState  `json:"log,omitempty"`                      // of log.opened, log.closed, key.rotated and audit.heartbeat
	KubeAuditID string     `json:"kubeAuditId,omitempty" check:"uuid"` // Audit-ID of the API request: joins with audit.k8s.io events
	Count       int64      `json:"count,omitempty"`                    // of audit.gap, audit.repeated and audit.counted: events not written; of anomaly.mass_revocation: volumes
	Counts      []Counted  `json:"counts,omitempty"`                   // of audit.counted: by rule and reason
	FirstTime   *time.Time `json:"firstTime,omitempty"`                // the first of count
	LastTime    *time.Time `json:"lastTime,omitempty"`                 // the last of count
	Repeated    int64      `json:"repeated,omitempty"`                 // equal events since the last one that was written
	Source      Source     `json:"source"`                             // who reports
	Trace       *Trace     `json:"trace,omitempty"`                    // empty until there is tracing
	DurationMS  int64      `json:"durationMs,omitempty"`               // from request to outcome

	// input is what was decided on: kept beside the log, never in it.
	input *policies.Input
}

// Counted says how many refusals among those that were only counted had one
// rule, or for want of a rule one reason. A denial by two rules is in both.
type Counted struct {
	Rule   string `json:"rule,omitempty" check:"rule"`     // that denied
	Reason Reason `json:"reason,omitempty" check:"reason"` // where no rule did
	Count  int64  `json:"count"`                           // of them
}

// Part places an event among those that hold one long list together.
type Part struct {
	First  string `json:"first" check:"uuid"` // id of the first part
	Number int    `json:"number"`             // from 1
	Of     int    `json:"of"`                 // how many there are
}

// Actor is who asked: a pod's service account, an API user, or Portcullis.
type Actor struct {
	Kind         ActorKind `json:"kind" check:"actorkind"`              // what kind of name it is
	Name         string    `json:"name" check:"actor"`                  // as Kubernetes writes user names
	UID          string    `json:"uid,omitempty" check:"uid"`           // of the account
	Groups       []string  `json:"groups,omitempty" check:"actor"`      // of an API user
	IP           string    `json:"ip,omitempty" check:"ip"`             // where the request came from
	CredentialID string    `json:"credentialId,omitempty" check:"uuid"` // jti of the token, never the token
	// Unconfirmed marks an actor and workload that are only what the request
	// claimed: nobody has vouched for them.
	Unconfirmed bool `json:"unconfirmed,omitempty"`
}

// Workload is the pod that gets the secrets, and its volume.
type Workload struct {
	Namespace      string   `json:"namespace,omitempty" check:"namespace"` // of the pod
	Pod            string   `json:"pod,omitempty" check:"name"`            // its name
	PodUID         string   `json:"podUid,omitempty" check:"uid"`          // with volume: which mount
	ServiceAccount string   `json:"serviceAccount,omitempty" check:"name"` // of the pod
	Node           string   `json:"node,omitempty" check:"name"`           // where it runs
	Volume         string   `json:"volume,omitempty" check:"name"`         // name in the pod's spec
	Images         []string `json:"images,omitempty" check:"digest"`       // of verified images
}

// Class is the SecretProviderClass that was read, and the digest of the
// parameters that policy saw and the provider got.
type Class struct {
	Name             string `json:"name" check:"name"`                        // of the object
	UID              string `json:"uid,omitempty" check:"uid"`                // of the object
	Generation       int64  `json:"generation,omitempty"`                     // that was read
	Provider         string `json:"provider,omitempty" check:"provider"`      // who delivers
	ParametersSHA256 string `json:"parametersSha256,omitempty" check:"hex64"` // of the effective parameters
}

// Secret is one requested secret by its absolute id, and the file it becomes.
type Secret struct {
	ID   string `json:"id" check:"secret"`           // provider://backend/path#key@version
	File string `json:"file,omitempty" check:"path"` // below the volume
}

// File is one delivered file. It has no digest: that of a short secret could
// be guessed backwards.
type File struct {
	Path string `json:"path" check:"path"` // below the volume
	Mode uint32 `json:"mode"`              // permission bits, 288 is 0440
	UID  int64  `json:"uid"`               // owner
	Size int64  `json:"size"`              // in bytes
	// Version is what the provider calls this version. Whatever does not look
	// like a version becomes its SHA-256.
	Version         string `json:"version,omitempty" check:"version"`
	PreviousVersion string `json:"previousVersion,omitempty" check:"version"` // of a rotated file
}

// Policy is the decision: enough to replay it from the bundle and the input.
type Policy struct {
	DecisionID    string   `json:"decisionId,omitempty" check:"decision"`  // equal for equal facts, bundle and outcome
	Effect        Effect   `json:"effect,omitempty" check:"effect"`        // what policy said
	Phase         string   `json:"phase,omitempty" check:"phase"`          // the gate that asked
	LibraryDigest string   `json:"libraryDigest,omitempty" check:"digest"` // of what is embedded in the binary
	BundleDigest  string   `json:"bundleDigest,omitempty" check:"digest"`  // of the bundle in force
	BundleSerial  int64    `json:"bundleSerial,omitempty"`                 // its number
	Unsigned      bool     `json:"unsigned,omitempty"`                     // no signature vouches for the bundle
	BreakGlass    bool     `json:"breakGlass,omitempty"`                   // the bundle is for emergencies: each event under it is critical
	InputSHA256   string   `json:"inputSha256,omitempty" check:"hex64"`    // of the facts without the time
	NowNS         int64    `json:"nowNs,omitempty"`                        // the time that policy saw, Unix nanoseconds
	Rules         []Rule   `json:"rules,omitempty"`                        // that fired
	Grants        []string `json:"grants,omitempty" check:"object"`        // that were used
	Waivers       []string `json:"waivers,omitempty" check:"object"`       // that were used
}

// Seen holds the resource versions of the objects that a decision was made
// from. What a cache held may be older than what the API server had.
type Seen struct {
	Pod            string `json:"pod,omitempty" check:"resourceversion"`            // of the pod
	Namespace      string `json:"namespace,omitempty" check:"resourceversion"`      // of its namespace
	ServiceAccount string `json:"serviceAccount,omitempty" check:"resourceversion"` // of its service account
	Class          string `json:"class,omitempty" check:"resourceversion"`          // of the SecretProviderClass
}

// Rule is one rule that fired.
type Rule struct {
	ID        string   `json:"id" check:"rule"`                 // as docs/POLICIES.md lists it
	Severity  Severity `json:"severity" check:"severity"`       // its author's
	Secret    string   `json:"secret,omitempty" check:"secret"` // that it is about
	Denies    bool     `json:"denies"`                          // false: a warning
	Waived    bool     `json:"waived,omitempty"`                // denied, but for a waiver
	Monitored bool     `json:"monitored,omitempty"`             // would have denied outside monitor mode
}

// Rotation says how a rotation kept its time.
type Rotation struct {
	ExpiresAt *time.Time `json:"expiresAt,omitempty"` // when the new content must be fetched again
	LateByMS  int64      `json:"lateByMs,omitempty"`  // after it was due
}

// Change is a change of policy or configuration.
type Change struct {
	Kind       ChangeKind `json:"kind" check:"changekind"`             // what was changed
	Name       string     `json:"name,omitempty" check:"name"`         // which one
	UID        string     `json:"uid,omitempty" check:"uid"`           // which one
	Verb       Verb       `json:"verb" check:"verb"`                   // how
	FromDigest string     `json:"fromDigest,omitempty" check:"digest"` // before; of a refused bundle: what stays in force
	ToDigest   string     `json:"toDigest,omitempty" check:"digest"`   // after; of a refused bundle: what was refused
	From       int64      `json:"fromGeneration,omitempty"`            // of a bundle: its serial
	To         int64      `json:"toGeneration,omitempty"`              // of a bundle: its serial
}

// LogState is the state of a log's Merkle tree. Each epoch has a tree of its own.
type LogState struct {
	// Epoch is which one Size and Root are of: in the first event of an epoch
	// the one before, or 0; else this one.
	Epoch int64  `json:"epoch"`
	Size  int64  `json:"size"`               // number of events
	Root  string `json:"root" check:"hex64"` // RFC 6962 root over them
	// Lost marks a log that is new although its node had one: the last epoch
	// was removed, or a first start was interrupted.
	Lost bool `json:"lost,omitempty"`
	// Missing is how many epochs are not there that a later one names as the one
	// before it: somebody removed them.
	Missing int64 `json:"missing,omitempty"`
	// Unsigned is how many events, just before this one, no signature covered
	// when the log was opened: a crash leaves a few, and so does whoever can
	// write the file.
	Unsigned int64 `json:"unsigned,omitempty"`
	// PreviousKey is the verifier key of the log up to this epoch's end.
	PreviousKey string `json:"previousKey,omitempty" check:"verifierkey"`
	Key         string `json:"key,omitempty" check:"verifierkey"` // from the next epoch on
}

// Source is the process that reports.
type Source struct {
	Component  string `json:"component" check:"component"`      // which program
	Version    string `json:"version" check:"release"`          // of the program
	Cluster    string `json:"cluster" check:"name"`             // as --cluster-name says
	ClusterUID string `json:"clusterUid,omitempty" check:"uid"` // of the namespace kube-system
	Node       string `json:"node,omitempty" check:"name"`      // where it runs
	// Insecure marks development builds, which may run unsigned policy and take
	// facts from files: nothing such a build reports is proof.
	Insecure bool `json:"insecure,omitempty"`
}

// Trace places an event in a distributed trace.
type Trace struct {
	TraceID string `json:"traceId,omitempty" check:"traceid"` // W3C trace id
	SpanID  string `json:"spanId,omitempty" check:"spanid"`   // W3C parent id
}
