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

# METADATA
# description: |
#   At most eight of these texts in one, and how many more there are. Whoever
#   writes pods and classes chooses how many there are, and a finding has a size.
# scope: document
listed(texts, separator) := concat(separator, sort(texts)) if count(texts) <= 8

listed(texts, separator) := sprintf("%s and %d more", [
	concat(separator, array.slice(sort(texts), 0, 8)),
	count(texts) - 8,
]) if {
	count(texts) > 8
}

# METADATA
# description: |
#   A text that somebody else chose, for a message: in quotes, with what is not
#   printable escaped, and no longer than a line.
# scope: document
quoted(text) := sprintf("%q", [text]) if count(text) <= 128

quoted(text) := sprintf("%q...", [substring(text, 0, 128)]) if count(text) > 128

# METADATA
# description: |
#   A setting of a check, and what it is where the configuration does not say:
#   the strictest. It is a function since "not x in data.portcullis.config..." is
#   undefined, and the rule does not fire, where the setting is missing.
setting(check, name, strictest) := value if {
	value := data.portcullis.config.checks[check][name]
} else := strictest

# METADATA
# description: |
#   Holds if a selector of namespaces is shown to select the pod's: for
#   exemptions. It is written as in grants, {"namespaces": [...],
#   "namespaceSelector": {...}}, where one of the two is enough, and "*" is every
#   name. Labels count where namespace_label_keys of the configuration has them.
# scope: document
namespace_in(selector) if "*" in selector.namespaces

namespace_in(selector) if input.subject.namespace in selector.namespaces

namespace_in(selector) if {
	is_object(selector.namespaceSelector)
	count(selector.namespaceSelector) > 0
	every key, value in selector.namespaceSelector {
		key in data.portcullis.config.namespace_label_keys
		input.subject.namespaceLabels[key] == value
	}
}

# METADATA
# description: |
#   Holds if a selector of namespaces is shown not to select the pod's: what it
#   demands is demanded unless this holds. A selector with a label that does not
#   count, or in another shape, shows nothing.
namespace_outside(selector) if {
	is_object(selector)
	object.keys(selector) - {"namespaces", "namespaceSelector"} == set()
	_named_otherwise(object.get(selector, "namespaces", []))
	_labelled_otherwise(object.get(selector, "namespaceSelector", {}))
}

_named_otherwise(names) if {
	every name in names {
		is_string(name)
		not name in {"*", input.subject.namespace}
	}
}

_labelled_otherwise({})

_labelled_otherwise(labels) if {
	every key, value in labels {
		key in data.portcullis.config.namespace_label_keys
		is_string(value)
	}
	some key, value in labels
	object.get(input.subject, ["namespaceLabels", key], null) != value
}
