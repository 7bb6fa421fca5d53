{{/*
Where policy comes from, and whose it may be. The node plugin and the webhook
decide by the same bundle, so that they are told the same: these templates are
included by both.
*/}}

{{/* "yes" if the bundle is pulled from a registry. */}}
{{- define "portcullis.policy.pulled" -}}
{{- if hasPrefix "oci://" (.Values.policy.source | default "") }}yes{{ end -}}
{{- end -}}

{{/* "yes" if anything is pulled from a registry. */}}
{{- define "portcullis.policy.anyPulled" -}}
{{- if or (include "portcullis.policy.pulled" .) (hasPrefix "oci://" (.Values.policy.shadow.source | default "")) }}yes{{ end -}}
{{- end -}}

{{/* "yes" if keys or identities are given, or what belongs to them. */}}
{{- define "portcullis.policy.trusts" -}}
{{- $p := .Values.policy -}}
{{- if or $p.keys $p.breakGlassKeys $p.trustedRoot }}yes{{ end -}}
{{- end -}}

{{/* Name of the ConfigMap with the floor of the serial. */}}
{{- define "portcullis.policy.floor" -}}portcullis-policy-floor{{- end -}}

{{/* Name of the ConfigMap with the public keys. */}}
{{- define "portcullis.policy.trust" -}}portcullis-policy-trust{{- end -}}

{{/* Flags about policy, as a YAML list of names with their values. */}}
{{- define "portcullis.policy.flags" -}}
{{- $p := .Values.policy -}}
{{- $source := printf "/policy/%s" $p.configMap.key -}}
{{- if include "portcullis.policy.pulled" . }}{{ $source = $p.source }}{{ end -}}
{{- $flags := list (list "policy" $source) (list "policy-poll-interval" $p.pollInterval) -}}
{{- range $i, $_ := $p.keys }}{{ $flags = append $flags (list "policy-key" (printf "/policy-trust/key-%d.pem" $i)) }}{{ end -}}
{{- range $i, $_ := $p.breakGlassKeys }}{{ $flags = append $flags (list "policy-break-glass-key" (printf "/policy-trust/break-glass-%d.pem" $i)) }}{{ end -}}
{{- range $p.identities }}{{ $flags = append $flags (list "policy-identity" (printf "%s %s" .issuer .subject)) }}{{ end -}}
{{- if $p.trustedRoot }}{{ $flags = append $flags (list "policy-trusted-root" "/policy-trust/trusted-root.json") }}{{ end -}}
{{- if gt (int ($p.signatures | default 1)) 1 }}{{ $flags = append $flags (list "policy-signatures" $p.signatures) }}{{ end -}}
{{- if $p.minSerial }}{{ $flags = append $flags (list "policy-min-serial" $p.minSerial) }}{{ end -}}
{{- if $p.floor.enabled }}{{ $flags = append $flags (list "policy-floor" (printf "%s/%s" .Release.Namespace (include "portcullis.policy.floor" .))) }}{{ end -}}
{{- if $p.fallback.configMap.name }}{{ $flags = append $flags (list "policy-fallback" (printf "/policy-fallback/%s" $p.fallback.configMap.key)) }}{{ end -}}
{{- if $p.registry.secretName }}{{ $flags = append $flags (list "policy-registry-config" "/policy-registry/config.json") }}{{ end -}}
{{- if $p.registry.caConfigMap }}{{ $flags = append $flags (list "policy-registry-ca" "/policy-registry-ca/ca.crt") }}{{ end -}}
{{- with $p.registry.signatureRepository }}{{ $flags = append $flags (list "policy-signature-repository" .) }}{{ end -}}
{{- if $p.registry.plainHTTP }}{{ $flags = append $flags (list "policy-registry-plain-http" true) }}{{ end -}}
{{- if $p.shadow.source }}{{ $flags = append $flags (list "policy-shadow" $p.shadow.source) -}}
{{- else if $p.shadow.configMap.name }}{{ $flags = append $flags (list "policy-shadow" (printf "/policy-shadow/%s" $p.shadow.configMap.key)) }}{{ end -}}
{{- if $p.allowUnsigned }}{{ $flags = append $flags (list "allow-unsigned-policy" true) }}{{ end -}}
{{- toYaml $flags -}}
{{- end -}}

{{/* All names of those flags, given or not: extraArgs may set none of them. */}}
{{- define "portcullis.policy.flagNames" -}}
[policy, policy-poll-interval, policy-key, policy-break-glass-key, policy-identity, policy-trusted-root, policy-signatures, policy-min-serial,
policy-floor, policy-fallback, policy-registry-config, policy-registry-ca, policy-signature-repository, policy-registry-plain-http, policy-shadow,
allow-unsigned-policy]
{{- end -}}

{{/* Flags as a YAML list of --name=value. A value that somebody set to null is the
program's default. */}}
{{- define "portcullis.flags" -}}
{{- range . -}}
{{- $value := index . 1 -}}
{{- if not (kindIs "invalid" $value) }}
- {{ printf "--%s=%s" (index . 0) (ternary (int64 $value | toString) (toString $value) (kindIs "float64" $value)) | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Volumes of policy: dict "root" $ "mode" of the files. Those that somebody else
makes are optional: a daemon without policy grants nothing, and says why. */}}
{{- define "portcullis.policy.volumes" -}}
{{- $p := .root.Values.policy -}}
{{- $mode := .mode -}}
{{- if not (include "portcullis.policy.pulled" .root) }}
- name: policy
  configMap:
    name: {{ $p.configMap.name | quote }}
    optional: true
    defaultMode: {{ $mode }}
{{- end }}
{{- if include "portcullis.policy.trusts" .root }}
- name: policy-trust
  configMap:
    name: {{ include "portcullis.policy.trust" .root }}
    defaultMode: {{ $mode }}
{{- end }}
{{- with $p.fallback.configMap.name }}
- name: policy-fallback
  configMap:
    name: {{ . | quote }}
    optional: true
    defaultMode: {{ $mode }}
{{- end }}
{{- with $p.registry.secretName }}
- name: policy-registry
  secret:
    secretName: {{ . | quote }}
    optional: true
    defaultMode: {{ $mode }}
    items:
    - key: .dockerconfigjson
      path: config.json
{{- end }}
{{- with $p.registry.caConfigMap }}
- name: policy-registry-ca
  configMap:
    name: {{ . | quote }}
    optional: true
    defaultMode: {{ $mode }}
{{- end }}
{{- if and $p.shadow.configMap.name (not $p.shadow.source) }}
- name: policy-shadow
  configMap:
    name: {{ $p.shadow.configMap.name | quote }}
    optional: true
    defaultMode: {{ $mode }}
{{- end }}
{{- end -}}

{{/* Where those volumes are mounted: at their names. */}}
{{- define "portcullis.policy.mounts" -}}
{{- range include "portcullis.policy.volumes" (dict "root" . "mode" "0400") | fromYamlArray }}
- name: {{ .name }}
  mountPath: /{{ .name }}
  readOnly: true
{{- end }}
{{- end -}}

{{/* Changes when keys do, so that pods which read them at their start are made anew. */}}
{{- define "portcullis.policy.annotations" -}}
{{- if include "portcullis.policy.trusts" . -}}
portcullis.dev/policy-trust: {{ include "portcullis.policy.trustData" . | sha256sum }}
{{- end -}}
{{- end -}}

{{/* The files with keys. They are public: nothing of them is secret, and whoever may
change them decides whose policy counts. */}}
{{- define "portcullis.policy.trustData" -}}
{{- $data := dict -}}
{{- range $i, $key := .Values.policy.keys }}{{ $_ := set $data (printf "key-%d.pem" $i) (printf "%s\n" (trim $key)) }}{{ end -}}
{{- range $i, $key := .Values.policy.breakGlassKeys }}{{ $_ := set $data (printf "break-glass-%d.pem" $i) (printf "%s\n" (trim $key)) }}{{ end -}}
{{- with .Values.policy.trustedRoot }}{{ $_ := set $data "trusted-root.json" . }}{{ end -}}
{{- toYaml $data -}}
{{- end -}}

{{/* Refuses values about policy that cannot work, or that do less than they seem to. */}}
{{- define "portcullis.policy.check" -}}
{{- $v := .Values -}}
{{- $p := $v.policy -}}
{{- if and (not $p.configMap.name) (not (include "portcullis.policy.pulled" .)) -}}
{{- fail "policy.configMap.name is empty, and nothing mounts without policy; hint: name the ConfigMap with the bundle, or give policy.source" -}}
{{- end -}}
{{- $images := list (list "linux.image.repository" "portcullis-node" $v.linux.image.repository) -}}
{{- if $v.webhook.enabled }}{{ $images = append $images (list "webhook.image.repository" "portcullis-webhook" $v.webhook.image.repository) }}{{ end -}}
{{- range $images -}}
{{- if and $p.allowUnsigned (eq (base (index . 2)) (index . 1)) -}}
{{- fail (printf "policy.allowUnsigned is true, and %s is a release image, which takes signed policy only; hint: for development set %s=%s-insecure" (index . 2) (index . 0) (index . 2)) -}}
{{- end -}}
{{- end -}}
{{- $keys := list -}}
{{- range concat ($p.keys | default list) ($p.breakGlassKeys | default list) }}{{ $keys = append $keys (regexReplaceAll "\\s" . "") }}{{ end -}}
{{- if ne (len $keys) (len (uniq $keys)) -}}
{{- fail "a key is twice in policy.keys and policy.breakGlassKeys: it would count as two signers, or make every bundle one for emergencies; hint: each key once, and keys for break-glass in policy.breakGlassKeys only" -}}
{{- end -}}
{{- $signers := add (len ($p.keys | default list)) (len ($p.identities | default list)) | int -}}
{{- if and (gt (int ($p.signatures | default 1)) $signers) (gt (int ($p.signatures | default 1)) 1) -}}
{{- fail (printf "policy.signatures is %d, and policy.keys and policy.identities name %d signers, so that no bundle could ever be in force; hint: name more signers, or ask for fewer signatures" (int $p.signatures) $signers) -}}
{{- end -}}
{{- if and $p.identities (not $p.trustedRoot) -}}
{{- fail "policy.identities is given without policy.trustedRoot, which their certificates are verified with; hint: set it with --set-file policy.trustedRoot=trusted_root.json" -}}
{{- end -}}
{{- if and $p.trustedRoot (not $p.identities) -}}
{{- fail "policy.trustedRoot is given without policy.identities, and trusts nobody; hint: name issuer and subject of those who sign" -}}
{{- end -}}
{{- if and $p.floor.enabled (not $v.webhook.enabled) -}}
{{- fail "policy.floor.enabled is true and webhook.enabled is false: only the webhook raises the floor, and nodes that cannot read one grant nothing; hint: set webhook.enabled=true" -}}
{{- end -}}
{{- if and $p.breakGlassKeys (not (add (len ($p.keys | default list)) (len ($p.identities | default list)))) (not $p.allowUnsigned) -}}
{{- fail "policy.breakGlassKeys is given without policy.keys or policy.identities, and nothing else could be in force; hint: name the keys of ordinary bundles too" -}}
{{- end -}}
{{- if and (not $signers) (not $p.allowUnsigned) -}}
{{- fail "policy.keys and policy.identities are empty, so that nobody may sign policy, and a plugin that trusts nobody does not start and unmounts nothing; hint: give the security team's key with --set-file policy.keys[0]=cosign.pub" -}}
{{- end -}}
{{- if not $signers -}}
{{- range $name, $value := dict "breakGlassKeys" $p.breakGlassKeys "minSerial" $p.minSerial "floor.enabled" $p.floor.enabled "fallback.configMap.name" $p.fallback.configMap.name -}}
{{- if $value -}}
{{- fail (printf "policy.%s is given, and policy.keys and policy.identities are empty: of a bundle that nobody signed it would hold nothing; hint: name who signs, or leave it out" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not (include "portcullis.policy.anyPulled" .) -}}
{{- range $name, $value := dict "secretName" $p.registry.secretName "caConfigMap" $p.registry.caConfigMap "signatureRepository" $p.registry.signatureRepository "plainHTTP" $p.registry.plainHTTP -}}
{{- if $value -}}
{{- fail (printf "policy.registry.%s is given, and nothing is pulled from a registry; hint: set policy.source=oci://registry.example/policy:prod, or leave it out" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $p.shadow.source $p.shadow.configMap.name -}}
{{- fail "policy.shadow.source and policy.shadow.configMap.name are both given; hint: one candidate at a time" -}}
{{- end -}}
{{- end -}}
