# METADATA
# schemas:
#   - input: schema.input
package portcullis.lib_test

import data.portcullis.fixtures
import data.portcullis.lib

test_only_containers_with_the_volume_mount_it if {
	other := object.union(fixtures.container, {"name": "other", "mountsVolume": false})
	got := lib.mounting_containers with input.pod.containers as [other, fixtures.container]
	[c.name | some c in got] == ["api"]
}

test_read_bits if lib.read_bits(420) == 292

test_octal if lib.octal(288) == "0440"

test_image_repository[name] if {
	some name, want in {
		"nginx": "nginx",
		"nginx:1": "nginx",
		"registry:5000/a/b": "registry:5000/a/b",
		"registry:5000/a/b:1@sha256:aa": "registry:5000/a/b",
		"a/b@sha256:aa": "a/b",
	}
	lib.image_repository(name) == want
}
