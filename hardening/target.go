package hardening

import (
	"path"
	"strings"
)

// Names below the pods directory, fixed by the kubelet.
const (
	podsName   = "pods"
	csiVolumes = "volumes/kubernetes.io~csi"
	mountName  = "mount"
)

// Target is the place of one volume of one pod: the directory above the
// mount, held by descriptor. Only System.Target makes a usable one.
type Target struct {
	sys    *System
	dir    *descriptor
	podUID string
	volume string
}

// State says what is at a target. The zero State is unknown and permits nothing.
type State int

// The states of a target.
const (
	StateUnknown  State = iota
	StateAbsent         // no directory
	StateEmpty          // a plain, empty directory
	StateOccupied       // a plain directory with entries: somebody wrote there
	StateOurs           // our mount on top, nothing over or in it
	StateCovered        // our mount, with foreign mounts over or in it
	StateLegacy         // a volume of the upstream driver
	StateForeign        // any other mount
)

// String returns the state in one word.
func (s State) String() string {
	names := [...]string{"unknown", "absent", "empty", "occupied", "ours", "covered", "legacy", "foreign"}
	if s < 0 || int(s) >= len(names) {
		return names[StateUnknown]
	}
	return names[s]
}

// Detached says what Detach found.
type Detached struct {
	Ours        int // mounts of ours, scrubbed
	Legacy      int // volumes of the upstream driver, scrubbed
	Foreign     int // other mounts, at the target or inside our volume
	Plain       int // entries in the directory itself: somebody wrote there
	ScrubErrors int // entries that could not be removed
}

// ParseTargetPath takes the pod UID and the volume name out of a CSI target
// path, which must be exactly
// <kubeletRoot>/pods/<uid>/volumes/kubernetes.io~csi/<volume>/mount.
func ParseTargetPath(kubeletRoot, target string) (podUID, volume string, err error) {
	bad := func(reason string) (string, string, error) {
		return "", "", &TargetError{Field: "target_path", Value: target, Reason: reason}
	}
	if !path.IsAbs(target) {
		return bad("not absolute")
	}
	rest, ok := strings.CutPrefix(target, path.Join(kubeletRoot, podsName)+"/")
	if !ok {
		return bad("not below the pods directory of --kubelet-root")
	}
	podUID, rest, _ = strings.Cut(rest, "/")
	rest, ok = strings.CutPrefix(rest, csiVolumes+"/")
	if !ok {
		return bad("not a CSI volume of a pod")
	}
	volume, ok = strings.CutSuffix(rest, "/"+mountName)
	if !ok {
		return bad("does not end in /mount")
	}
	if err := checkTarget(podUID, volume); err != nil {
		return "", "", err
	}
	return podUID, volume, nil
}

// TargetPath is the target path of a volume, as the kubelet writes it.
func TargetPath(kubeletRoot, podUID, volume string) string {
	return path.Join(kubeletRoot, podsName, podUID, csiVolumes, volume, mountName)
}

func checkTarget(podUID, volume string) error {
	if !isUID(podUID) {
		// Static pods have UIDs without dashes; they cannot hold a token and
		// are out of scope.
		return &TargetError{Field: "pod uid", Value: podUID, Reason: "not a lower-case UUID with dashes"}
	}
	if !isLabel(volume) {
		return &TargetError{Field: "volume name", Value: volume, Reason: "not a DNS label"}
	}
	return nil
}

// isUID reports whether s is a canonical UUID: 8-4-4-4-12 lower-case digits.
func isUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash && s[i] != '-' || !dash && !isHex(s[i]) {
			return false
		}
	}
	return true
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }

// isLabel reports whether s is a DNS label as RFC 1123 has it.
func isLabel(s string) bool {
	if len(s) < 1 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

func targetKey(podUID, volume string) string { return podUID + "/" + volume }
