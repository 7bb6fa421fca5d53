# METADATA
# title: Helpers for checks
# description: What every check needs to say what it means about the input.
# schemas:
#   - input: schema.input
package portcullis.lib

# METADATA
# description: The containers that mount the volume of this decision.
mounting_containers := [c | some c in input.pod.containers; c.mountsVolume == true]

# METADATA
# description: The read bits of a file mode, which are all that the driver ever sets.
read_bits(mode) := bits.and(mode, 292)

# METADATA
# description: A file mode as people write it, 0440 for 288.
octal(mode) := sprintf("0%o", [mode])

# METADATA
# description: |
#   The repository of an image reference, without tag and digest. The text is
#   taken as the pod has it: nginx and docker.io/library/nginx are different.
image_repository(image) := concat("/", array.concat(array.slice(parts, 0, count(parts) - 1), [last])) if {
	parts := split(split(image, "@")[0], "/")
	last := split(parts[count(parts) - 1], ":")[0]
}
