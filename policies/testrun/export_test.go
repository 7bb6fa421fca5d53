package testrun

import "github.com/portcullis-csi/portcullis/policies"

// Differs is what the differential over OPA's rule index compares decisions by.
func Differs(a, b policies.Decision) bool { return differs(a, b) }
