{{/* Labels that find the webhook's pods, and never change. */}}
{{- define "portcullis.webhook.selector" -}}
app: portcullis-webhook
{{- end -}}

{{/* The one name of the webhook's StatefulSet, Service, account and roles. */}}
{{- define "portcullis.webhook.name" -}}portcullis-webhook{{- end -}}

{{/* The Service that names each replica. */}}
{{- define "portcullis.webhook.replicas" -}}portcullis-webhook-replicas{{- end -}}

{{/* Flags of the webhook that the chart sets, as a YAML list. */}}
{{- define "portcullis.webhook.args" -}}
{{- $v := .Values -}}
{{- $w := $v.webhook -}}
{{- $flags := list
  (list "drivername" (include "portcullis.admission.driver" .))
  (list "cluster-name" $v.clusterName)
  (list "listen" ":9443")
  (list "state-dir" "/var/lib/portcullis/webhook")
  (list "state-durable" (ternary true false (eq true $w.persistence.enabled)))
  (list "audit-retention-bytes" (include "portcullis.bytes" (dict "name" "webhook.audit.retentionBytes" "value" $w.audit.retentionBytes)))
  (list "audit-epoch-bytes" (include "portcullis.bytes" (dict "name" "webhook.audit.epochBytes" "value" $w.audit.epochBytes)))
  (list "health-addr" ":9808")
  (list "metrics-addr" ":8095")
  (list "log-format-json" $v.logFormatJSON)
  (list "v" $v.logVerbosity)
-}}
{{- if $w.certManager.enabled -}}
{{- $flags = append $flags (list "cert-dir" "/certificates") -}}
{{- else -}}
{{- $flags = concat $flags (list (list "cert-secret" "portcullis-webhook-cert") (list "service" (include "portcullis.webhook.name" .))) -}}
{{- end -}}
{{- $flags = append $flags (list "webhook-configuration" "portcullis") -}}
{{- if $w.clientCA.configMap -}}
{{- $flags = concat $flags (list (list "client-ca" "/client-ca/ca.crt") (list "client-names" (join "," $w.clientCA.names))) -}}
{{- end -}}
{{- with $w.knownProviders }}{{ $flags = append $flags (list "known-providers" (join "," .)) }}{{ end -}}
{{- include "portcullis.flags" (concat $flags (include "portcullis.policy.flags" . | fromYamlArray)) -}}
{{- end -}}

{{/* Soft limit of the Go runtime: four fifths of the memory limit. The rest is for
reviews that come in between two of its collections. */}}
{{- define "portcullis.webhook.goMemory" -}}
{{- with dig "limits" "memory" "" (.Values.webhook.resources | default dict) -}}
{{- div (mul 4 (include "portcullis.bytes" (dict "name" "webhook.resources.limits.memory" "value" .) | int64)) 5 -}}
{{- end -}}
{{- end -}}

{{/*
A manifest of the account: dict "file" "root". Where cert-manager makes the
certificate, the account writes neither Secret nor configuration: whoever has the
right to patch that can have API servers send them what they like.
*/}}
{{- define "portcullis.webhook.file" -}}
{{- $object := include "portcullis.file" . | fromYaml -}}
{{- if and .root.Values.webhook.certManager.enabled $object.rules -}}
{{- $rules := list -}}
{{- range $object.rules -}}
{{- if has "validatingwebhookconfigurations" .resources }}{{ $_ := set . "verbs" (list "get") }}{{ end -}}
{{- if not (has "secrets" .resources) }}{{ $rules = append $rules . }}{{ end -}}
{{- end -}}
{{- $_ := set $object "rules" $rules -}}
{{- end -}}
{{- toYaml $object -}}
{{- end -}}

{{/* Refuses values of the webhook that cannot work. */}}
{{- define "portcullis.webhook.check" -}}
{{- $w := .Values.webhook -}}
{{- if $w.enabled -}}
{{- $retention := include "portcullis.bytes" (dict "name" "webhook.audit.retentionBytes" "value" $w.audit.retentionBytes) | int64 -}}
{{- $epoch := include "portcullis.bytes" (dict "name" "webhook.audit.epochBytes" "value" $w.audit.epochBytes) | int64 -}}
{{- if or (lt $epoch 1048576) (gt (mul $epoch 2) $retention) -}}
{{- fail (printf "webhook.audit.epochBytes %v is below 1Mi or more than half of webhook.audit.retentionBytes %v" $w.audit.epochBytes $w.audit.retentionBytes) -}}
{{- end -}}
{{- if $w.persistence.enabled -}}
{{- /* The log with what is kept beside it, the state of policy, and an epoch that is being closed. */ -}}
{{- $size := include "portcullis.bytes" (dict "name" "webhook.persistence.size" "value" $w.persistence.size) | int64 -}}
{{- if lt $size (add $retention (div $retention 10) $epoch 67108864) -}}
{{- fail (printf "webhook.persistence.size %v does not hold webhook.audit.retentionBytes %v with what is kept beside it; hint: make the volume twice as large as the log" $w.persistence.size $w.audit.retentionBytes) -}}
{{- end -}}
{{- end -}}
{{- if ne (empty $w.clientCA.configMap) (empty $w.clientCA.names) -}}
{{- fail "webhook.clientCA needs both configMap and names; hint: name the common names of the API servers' client certificates: the authority of a cluster signs for its users and nodes too" -}}
{{- end -}}
{{- if and $w.certManager.issuerRef (not $w.certManager.issuerRef.name) -}}
{{- fail "webhook.certManager.issuerRef has no name; hint: name the Issuer, or leave issuerRef empty for a self-signed one" -}}
{{- end -}}
{{- range $w.topologySpread -}}
{{- if or .labelSelector .matchLabelKeys -}}
{{- fail "webhook.topologySpread has a label selector, which the chart sets; hint: remove labelSelector and matchLabelKeys" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Conditions of the ValidatingWebhookConfiguration. With failurePolicy Fail an error
in one of them refuses the request, so that none may err whatever the object looks
like: what may be missing is asked for by .? with a default, and no function is
called that can fail.
*/}}

{{/* Volumes of a pod's spec, at a path with optional steps: one is ours. */}}
{{- define "portcullis.webhook.ours" -}}
{{ .path }}.?volumes.orValue([]).exists(v, v.?csi.?driver.orValue('') == '{{ include "portcullis.admission.driver" .root }}')
{{- end -}}

{{/* Annotations of a pod that a provider reads its list from. A test compares them
with package secretref. */}}
{{- define "portcullis.webhook.annotations" -}}
[conjur.org/secrets]
{{- end -}}

{{- define "portcullis.webhook.pods" -}}
- name: has-a-volume-of-the-driver
  expression: {{ include "portcullis.webhook.ours" (dict "root" . "path" "object.?spec") | quote }}
# Every update of a pod that is running passes here: those are asked about that
# bring in another image or another list of secrets.
- name: is-new-or-brings-something-in
  expression: >-
    request.operation == 'CREATE' || request.?subResource.orValue('') == 'ephemeralcontainers'
    {{- range $list := list "containers" "initContainers" "ephemeralContainers" }} ||
    object.?spec.?{{ $list }}.orValue([]).map(c, c.?image.orValue('')) != oldObject.?spec.?{{ $list }}.orValue([]).map(c, c.?image.orValue(''))
    {{- end }}
    {{- range include "portcullis.webhook.annotations" . | fromYamlArray }} ||
    object.?metadata.?annotations[?'{{ . }}'].orValue('') != oldObject.?metadata.?annotations[?'{{ . }}'].orValue('')
    {{- end }}
{{- end -}}

{{/* What a controller made of a template had its warning when somebody wrote that. */}}
{{- define "portcullis.webhook.templates" -}}
- name: has-a-volume-of-the-driver
  expression: >-
    {{ include "portcullis.webhook.ours" (dict "root" . "path" "object.?spec.?template.?spec") }} ||
    {{ include "portcullis.webhook.ours" (dict "root" . "path" "object.?spec.?jobTemplate.?spec.?template.?spec") }}
- name: not-made-by-another-workload
  expression: "!object.?metadata.?ownerReferences.orValue([]).exists(r, r.?controller.orValue(false))"
- name: is-new-or-has-another-template
  expression: >-
    request.operation == 'CREATE' || object.?spec.?template.orValue({}) != oldObject.?spec.?template.orValue({}) ||
    object.?spec.?jobTemplate.orValue({}) != oldObject.?spec.?jobTemplate.orValue({})
{{- end -}}

{{- define "portcullis.webhook.classes" -}}
- name: is-new-or-has-another-spec
  expression: request.operation == 'CREATE' || object.?spec.orValue({}) != oldObject.?spec.orValue({})
{{- end -}}

{{/* One webhook: dict "root" "name" "path" "failurePolicy" "rules" "conditions". */}}
{{- define "portcullis.webhook.entry" -}}
- name: {{ .name }}.admission.portcullis.dev
  admissionReviewVersions: [v1]
  # A dry run is decided and not logged.
  sideEffects: NoneOnDryRun
  matchPolicy: Equivalent
  failurePolicy: {{ .failurePolicy }}
  timeoutSeconds: {{ int .root.Values.webhook.timeoutSeconds }}
  clientConfig:
    service:
      name: {{ include "portcullis.webhook.name" .root }}
      namespace: {{ .root.Release.Namespace | quote }}
      path: /{{ .name }}
      port: 443
  rules:
  {{- .rules | nindent 2 }}
  matchConditions:
  {{- .conditions | nindent 2 }}
{{- end -}}
