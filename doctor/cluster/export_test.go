package cluster

import "github.com/portcullis-csi/portcullis/doctor"

// PolicyOf reads what a page of metrics says of policy, for tests.
func PolicyOf(page string) (doctor.Daemon, error) {
	var d doctor.Daemon
	err := policyOf(&d, page)
	return d, err
}
