# METADATA
# title: Grants
# description: Which grants cover which request. All access starts here.
# schemas:
#   - input: schema.input
package portcullis.lib.grants

import data.portcullis.lib

_scoping := object.get(input.spc, "scoping", {})

_scopes := {input.subject.namespace} | {scope |
	some key in data.portcullis.config.namespace_label_keys
	scope := sprintf("label:%s=%s", [key, input.subject.namespaceLabels[key]])
}

_subject_keys := {concat("/", [scope, who]) |
	some scope in _scopes
	some who in {input.subject.serviceAccount, "*"}
}

# Fetched once: most subjects have grants below one or two of these keys.
_of_subject := [by_secret |
	some key in _subject_keys
	by_secret := data.portcullis.grants.by_subject[key]
]

# METADATA
# description: |
#   The keys below which a grant for this secret may be filed: the id, the id
#   without its version, every key of its path, and every path prefix. What could
#   not be read for certain is filed below its whole id only.
# scope: document
secret_keys(id) := {id} if startswith(id, "unparsed:")

secret_keys(id) := keys if {
	not startswith(id, "unparsed:")
	unversioned := split(id, "@")[0]
	path := split(unversioned, "#")[0]
	every_key := {concat("", [path, "#"]) | contains(unversioned, "#")}

	# The first two slashes belong to "<provider>://".
	prefixes := {substring(path, 0, at + 1) | some n, at in indexof_n(path, "/"); n > 1}
	keys := ({id, unversioned} | every_key) | prefixes
}

# METADATA
# description: The grants that name the secret and the subject, live or not, by secret.
named := {r.secret: gs |
	some r in input.requests
	keys := secret_keys(r.secret)
	gs := [g |
		some by_secret in _of_subject
		some key in keys
		some g in by_secret[key]
	]
}

# Each requirement has to be shown to hold. A record that lacks a field, or an
# input that lacks a fact, shows nothing and so is not live.
_requirements := {
	"has not expired",
	"is for this provider",
	"matches the labels of the namespace",
	"matches the owner, the images and the name of the pod",
	"accepts the signers of the images",
}

_holds("has not expired", g) if input.now_ns < g.not_after_ns

_holds("is for this provider", g) if g.provider == input.spc.provider

_holds("matches the labels of the namespace", g) if {
	every key, value in object.get(g, "namespace_labels", {}) {
		key in data.portcullis.config.namespace_label_keys
		input.subject.namespaceLabels[key] == value
	}
}

_holds("matches the owner, the images and the name of the pod", g) if {
	pods := object.get(g, "pods", {})
	_one_of(object.get(pods, "owner_kinds", []), object.get(input.pod, ["owner", "kind"], ""))
	_one_of(object.get(pods, "owner_names", []), object.get(input.pod, ["owner", "name"], ""))
	_named_like(object.get(pods, "name_patterns", []))
	_images_from(object.get(pods, "image_repositories", []))
}

_holds("accepts the signers of the images", g) if _signed_by(object.get(g, "image_signers", []))

_one_of([], _)

_one_of(allowed, value) if value in allowed

_named_like([])

_named_like(patterns) if input.subject.podName in patterns

_named_like(patterns) if {
	some pattern in patterns
	endswith(pattern, "*")
	startswith(input.subject.podName, trim_suffix(pattern, "*"))
}

_images_from([])

# The count comes first because every over nothing is true.
_images_from(repositories) if {
	count(lib.mounting_containers) > 0
	every container in lib.mounting_containers {
		_image_from(container.image, repositories)
	}
}

_image_from(image, repositories) if lib.image_repository(image) in repositories

_image_from(image, repositories) if {
	contains(image, "@")
	concat("@", [lib.image_repository(image), split(image, "@")[1]]) in repositories
}

_signed_by([])

_signed_by(signers) if {
	count(lib.mounting_containers) > 0
	every container in lib.mounting_containers {
		container.signature.verified == true
		some signer in container.signature.by
		signer in signers
	}
}

# Each grant is judged once, however many secrets it names.
_live_grants := {g |
	some gs in named
	some g in gs
	every requirement in _requirements {
		_holds(requirement, g)
	}
}

# METADATA
# description: The live grants that name the secret and the subject, by secret.
live := {secret: gs |
	some secret, candidates in named
	gs := [g | some g in candidates; g in _live_grants]
}

# METADATA
# description: What keeps the named grants of a secret from being live, for the remedy.
misses(secret) := {text |
	some g in named[secret]
	some requirement in _requirements
	not _holds(requirement, g)
	text := sprintf("grant %s would apply if it %s", [g.id, _would[requirement]])
}

_would := {
	"has not expired": "had not expired",
	"is for this provider": "were for this provider",
	"matches the labels of the namespace": "matched the labels of the namespace",
	"matches the owner, the images and the name of the pod": "matched the owner, the images and the name of the pod",
	"accepts the signers of the images": "accepted the signers of the images",
}

# METADATA
# description: |
#   The live grants whose scoping parameters are exactly the class's, by secret.
#   Exactly, since leaving one out selects another identity at the backend too.
scoped := {secret: gs |
	some secret, candidates in live
	gs := [g | some g in candidates; g.scoping == _scoping]
}

# METADATA
# description: |
#   The grants that a request is served by, by its position. One grant has to
#   cover all of it: the scoping of one and the owner of another is nobody's grant.
usable := {i: gs |
	some i, r in input.requests
	gs := [g | some g in scoped[r.secret]; _owner_granted(g, r)]
}

_owner_granted(_, r) if object.get(r, "uid", "absent") == "absent"

_owner_granted(g, r) if r.uid == g.owner_uid

# METADATA
# description: All grants that serve a request, in the order of their ids.
used := {g | some gs in usable; some g in gs}

# METADATA
# description: Holds if a grant that serves the request lists this Secret object as a target.
sync_granted(i, target) if {
	some g in usable[i]
	target in object.get(g, "sync_targets", [])
}

# METADATA
# description: The targets of copies that no grant lists, of requests that a grant serves.
targets_not_granted := {target.name |
	some i, r in input.requests
	count(usable[i]) > 0
	some target in r.sync
	not sync_granted(i, target.name)
}

# METADATA
# description: The read bits that every one of these grants permits.
common_mode(gs) := sum([bit |
	some bit in [256, 32, 4]
	every g in gs {
		bits.and(object.get(g, "max_file_mode", 292), bit) == bit
	}
])
