{{/*
What the admission policies have in common. CEL that stands in matchConditions,
where variables do not exist yet, is written once, here.
*/}}

{{/* The driver's name, as the CSIDriver object has it. */}}
{{- define "portcullis.admission.driver" -}}
{{ (.Files.Get "files/csidriver.yaml" | fromYaml).metadata.name }}
{{- end -}}

{{/* The name of the plugin's service account. */}}
{{- define "portcullis.admission.account" -}}
{{ (.Files.Get "files/rbac/serviceaccount.yaml" | fromYaml).metadata.name }}
{{- end -}}

{{/*
The pod of a request: of a Pod, or of the template in a workload or CronJob.
dyn() keeps the API server from checking each kind for the fields of the others.
*/}}
{{- define "portcullis.admission.spec" -}}
(has(dyn(object).spec.jobTemplate) ? dyn(object).spec.jobTemplate.spec.template.spec : has(dyn(object).spec.template) ? dyn(object).spec.template.spec : dyn(object).spec)
{{- end -}}

{{/* One volume, v, is of our driver. */}}
{{- define "portcullis.admission.ours" -}}
has(v.csi) && v.csi.driver == '{{ include "portcullis.admission.driver" . }}'
{{- end -}}

{{/* Only pods with a volume of ours are looked at. What a controller made of a
template is not a template that somebody wrote: it had its warning. */}}
{{- define "portcullis.admission.conditions" -}}
- name: has-a-volume-of-the-driver
  expression: >-
    has({{ include "portcullis.admission.spec" . }}.volumes) &&
    {{ include "portcullis.admission.spec" . }}.volumes.exists(v, {{ include "portcullis.admission.ours" . }})
{{ include "portcullis.admission.written" . }}
{{- end -}}

{{/* Of templates only: an owner is what the author writes, and would be a way
around what counts for pods and persistent volumes. */}}
{{- define "portcullis.admission.written" -}}
- name: not-made-by-another-workload
  expression: >-
    request.resource.resource in ['pods', 'persistentvolumes'] || !has(object.metadata.ownerReferences) ||
    !object.metadata.ownerReferences.exists(r, has(r.controller) && r.controller)
{{- end -}}

{{/* Pods when they are made. Their volumes do not change afterwards, and a pod
that was there before the policy can still be updated, and so end. */}}
{{- define "portcullis.admission.pods" -}}
- apiGroups: [""]
  apiVersions: [v1]
  operations: [CREATE]
  resources: [pods]
{{- end -}}

{{- define "portcullis.admission.ephemeralContainers" -}}
- apiGroups: [""]
  apiVersions: [v1]
  operations: [UPDATE]
  resources: [pods/ephemeralcontainers]
{{- end -}}

{{- define "portcullis.admission.templates" -}}
- apiGroups: [apps]
  apiVersions: [v1]
  operations: [CREATE, UPDATE]
  resources: [deployments, statefulsets, daemonsets, replicasets]
- apiGroups: [batch]
  apiVersions: [v1]
  operations: [CREATE, UPDATE]
  resources: [jobs, cronjobs]
- apiGroups: [""]
  apiVersions: [v1]
  operations: [CREATE, UPDATE]
  resources: [replicationcontrollers]
{{- end -}}

{{- define "portcullis.admission.persistentVolumes" -}}
- apiGroups: [""]
  apiVersions: [v1]
  operations: [CREATE]
  resources: [persistentvolumes]
{{- end -}}

{{/* What follows from a mode, deny or warn. Either is in the audit log. */}}
{{- define "portcullis.admission.actions" -}}
{{- if eq . "deny" }}[Deny, Audit]{{ else if eq . "warn" }}[Warn, Audit]{{ else }}{{ fail (printf "admissionPolicies: %q is none of deny, warn, off" .) }}{{ end -}}
{{- end -}}

{{- define "portcullis.admission.exempt" -}}
{{- with .Values.admissionPolicies.exemptNamespaces }}
namespaceSelector:
  matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{ toJson . }}
{{- end }}
{{- end -}}

{{/*
The directories of the node that no pod may reach, as a CEL list: clean, and with
a slash at the end, so that whole elements are compared. /var/run leads to /run on
most nodes, so either stands for both.
*/}}
{{- define "portcullis.admission.directories" -}}
{{- $root := .Values.linux.kubeletRootDir -}}
{{- $paths := list (printf "%s/pods" $root) (include "portcullis.pluginDir" .) (printf "%s/plugins_registry" $root) .Values.stateDir .Values.linux.providersDir "/proc" -}}
{{- range .Values.linux.additionalProvidersDirs }}{{ $paths = append $paths . }}{{ end -}}
{{- /* Where the provider for trying keeps what others would have to ask for. */ -}}
{{- if .Values.localProvider.enabled }}{{ $paths = append $paths .Values.localProvider.dir }}{{ end -}}
{{- $all := list -}}
{{- range $paths -}}
{{- $path := printf "%s/" (clean (printf "/%s" .)) -}}
{{- if regexMatch "['\\\\[:cntrl:]]" $path }}{{ fail (printf "%q is no directory of a node" .) }}{{ end -}}
{{- $all = append $all $path -}}
{{- if hasPrefix "/run/" $path }}{{ $all = append $all (printf "/var%s" $path) }}{{ end -}}
{{- if hasPrefix "/var/run/" $path }}{{ $all = append $all (trimPrefix "/var" $path) }}{{ end -}}
{{- end -}}
['{{ join "', '" (uniq $all) }}']
{{- end -}}
