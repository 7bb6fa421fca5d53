package node

import (
	"context"
	"strings"
	"time"

	"github.com/portcullis-csi/portcullis/doctor"
	"github.com/portcullis-csi/portcullis/policies"
	"github.com/portcullis-csi/portcullis/policies/bundle"
)

// parseReadiness reads the lines of /readyz: a mark, a name, and what is wrong.
func parseReadiness(text string) []doctor.Condition {
	var list []doctor.Condition
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if len(line) < 5 || line[0] != '[' || line[2:4] != "] " || !strings.ContainsRune("+-!", rune(line[1])) {
			continue
		}
		name, detail, _ := strings.Cut(line[4:], ": ")
		list = append(list, doctor.Condition{Name: name, Detail: detail, Mark: line[1]})
	}
	return list
}

// policy reads and compiles the bundle, as the plugin would; nil if there is none.
func policy(ctx context.Context, path string) doctor.Asked[*doctor.Bundle] {
	if path == "" {
		return doctor.Asked[*doctor.Bundle]{}
	}
	b, err := bundle.Open(path)
	if err != nil {
		return doctor.Asked[*doctor.Bundle]{Err: err}
	}
	found := &doctor.Bundle{
		Path: path, Digest: b.Digest, Revision: b.Manifest.Revision, Serial: b.Manifest.Serial, NotAfter: b.Manifest.NotAfter,
	}
	if _, err := policies.Compile(ctx, b, policies.Options{}); err != nil {
		return doctor.Asked[*doctor.Bundle]{Value: found, Err: err}
	}
	for _, w := range bundle.Warnings(b, time.Now()) {
		found.Warnings = append(found.Warnings, w.Subject+": "+w.Message)
	}
	return doctor.Asked[*doctor.Bundle]{Value: found}
}
