{{/* Labels of every object: the chart's own count before commonLabels. */}}
{{- define "portcullis.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/name" .Chart.Name
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" (.Chart.AppVersion | replace "+" "_" | trunc 63)
  "app.kubernetes.io/managed-by" .Release.Service
-}}
{{- merge $own (.Values.commonLabels | default dict) | toYaml -}}
{{- end -}}

{{/* Labels that find the plugin's pods, and never change: those of upstream. */}}
{{- define "portcullis.selector" -}}
app: secrets-store-csi-driver
{{- end -}}

{{/* Labels that find the local provider's pods. */}}
{{- define "portcullis.localProvider.selector" -}}
app: portcullis-provider-local
{{- end -}}

{{/* Reference of an image: dict "image" (repository, tag, digest) "root" $. */}}
{{- define "portcullis.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* A manifest of files/ in the release namespace, with labels: dict "file" "root". */}}
{{- define "portcullis.file" -}}
{{- $text := .root.Files.Get .file -}}
{{- if not $text -}}
{{- fail (printf "the chart has no %s; hint: package it anew" .file) -}}
{{- end -}}
{{- $object := fromYaml $text -}}
{{- $_ := set $object.metadata "labels" (merge ($object.metadata.labels | default dict) (include "portcullis.labels" .root | fromYaml)) -}}
{{- if $object.metadata.namespace -}}
{{- $_ := set $object.metadata "namespace" .root.Release.Namespace -}}
{{- end -}}
{{- range $object.subjects -}}
{{- $_ := set . "namespace" $.root.Release.Namespace -}}
{{- end -}}
{{- toYaml $object -}}
{{- end -}}

{{/* Bytes of a number, or of a quantity such as 128Mi: dict "name" "value". */}}
{{- define "portcullis.bytes" -}}
{{- $text := .value | toString -}}
{{- if or (kindIs "float64" .value) (kindIs "int64" .value) (kindIs "int" .value) -}}
{{- $text = int64 .value | toString -}}
{{- end -}}
{{- if not (regexMatch "^[0-9]+([.][0-9]+)?([KMGT]i|[kMGT])?$" $text) -}}
{{- fail (printf "%s is %q, which is no amount of bytes; hint: write it as in 134217728 or 128Mi" .name $text) -}}
{{- end -}}
{{- $number := regexFind "^[0-9.]+" $text | float64 -}}
{{- $unit := regexReplaceAll "^[0-9.]+" $text "" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf $number (get $units $unit) | int64 -}}
{{- end -}}

{{/* What the plugin needs beside its volumes. */}}
{{- define "portcullis.baseBytes" -}}268435456{{- end -}}

{{/* Smallest memory limit: the volumes' pages are charged to the plugin's pod and
outlive its container, so that a kill for want of memory would repeat for ever. */}}
{{- define "portcullis.leastMemory" -}}
{{- add (include "portcullis.bytes" (dict "name" "maxNodeBytes" "value" .Values.maxNodeBytes)) (include "portcullis.baseBytes" .) -}}
{{- end -}}

{{/* Memory limit of the plugin, in bytes. */}}
{{- define "portcullis.memoryLimit" -}}
{{- $least := include "portcullis.leastMemory" . | int64 -}}
{{- $given := dig "limits" "memory" "" .Values.linux.driver.resources -}}
{{- if $given -}}
{{- $limit := include "portcullis.bytes" (dict "name" "linux.driver.resources.limits.memory" "value" $given) | int64 -}}
{{- if lt $limit $least -}}
{{- fail (printf "linux.driver.resources.limits.memory %v is below %d (maxNodeBytes + 256Mi): the pages of volumes are charged to the plugin and outlive it, so that it would be killed again and again; hint: leave the limit out, or lower maxNodeBytes" $given $least) -}}
{{- end -}}
{{- $limit -}}
{{- else -}}
{{- $least -}}
{{- end -}}
{{- end -}}

{{/* Resources of the plugin, with the memory that it needs. */}}
{{- define "portcullis.resources" -}}
{{- $resources := deepCopy .Values.linux.driver.resources -}}
{{- $limits := $resources.limits | default dict -}}
{{- $requests := $resources.requests | default dict -}}
{{- /* null takes away a value of the upstream chart. */ -}}
{{- range $part := list $limits $requests -}}
{{- range $name, $quantity := $part }}{{ if kindIs "invalid" $quantity }}{{ $_ := unset $part $name }}{{ end }}{{ end -}}
{{- end -}}
{{- if not $limits.memory -}}
{{- $_ := set $limits "memory" (include "portcullis.memoryLimit" .) -}}
{{- end -}}
{{- if not $requests.memory -}}
{{- $_ := set $requests "memory" (include "portcullis.leastMemory" .) -}}
{{- end -}}
{{- $wanted := include "portcullis.bytes" (dict "name" "linux.driver.resources.requests.memory" "value" $requests.memory) | int64 -}}
{{- if gt $wanted (include "portcullis.memoryLimit" . | int64) -}}
{{- fail (printf "linux.driver.resources.requests.memory %v is above the limit, %v bytes; hint: leave the request out, or raise linux.driver.resources.limits.memory" $requests.memory (include "portcullis.memoryLimit" .)) -}}
{{- end -}}
{{- merge (dict "limits" $limits "requests" $requests) $resources | toYaml -}}
{{- end -}}

{{/* Soft limit of the Go runtime: what the memory limit leaves beside volumes. */}}
{{- define "portcullis.goMemory" -}}
{{- $volumes := include "portcullis.bytes" (dict "name" "maxNodeBytes" "value" .Values.maxNodeBytes) | int64 -}}
{{- sub (include "portcullis.memoryLimit" . | int64) (add $volumes 33554432) -}}
{{- end -}}

{{/* PriorityClass of the plugin: the chart's own where it makes one. */}}
{{- define "portcullis.priorityClassName" -}}
{{ .Values.priorityClass.create | ternary .Values.priorityClass.name .Values.linux.priorityClassName }}
{{- end -}}

{{/* Nodes that may run pods of the chart. */}}
{{- define "portcullis.nodeSelector" -}}
{{- merge (dict "kubernetes.io/os" "linux") (.Values.linux.nodeSelector | default dict) | toYaml -}}
{{- end -}}

{{/* Port of the metrics address, empty if there is none. */}}
{{- define "portcullis.metricsPort" -}}
{{- regexFind "[0-9]+$" .Values.linux.metricsAddr -}}
{{- end -}}

{{/* "yes" if one directory of the node is, or lies in, the other: dict "a" "b".
/var/run leads to /run on most nodes. */}}
{{- define "portcullis.overlap" -}}
{{- $a := regexReplaceAll "^/var/run/" (printf "%s/" .a) "/run/" -}}
{{- $b := regexReplaceAll "^/var/run/" (printf "%s/" .b) "/run/" -}}
{{- if or (hasPrefix $a $b) (hasPrefix $b $a) }}yes{{ end -}}
{{- end -}}

{{/* Directory with the plugin's CSI socket, on the node. */}}
{{- define "portcullis.pluginDir" -}}
{{ .Values.linux.kubeletRootDir }}/plugins/csi-secrets-store
{{- end -}}

{{/* What a daemon reaches: the API server, and the registry of policy if there is one. */}}
{{- define "portcullis.egress" -}}
{{- $policy := .Values.networkPolicy -}}
{{- $to := list $policy.apiServer -}}
{{- if include "portcullis.policy.anyPulled" . }}{{ $to = append $to $policy.registry }}{{ end -}}
{{- range $to }}
- ports:
  {{- range .ports }}
  - protocol: TCP
    port: {{ int . }}
  {{- end }}
  {{- with .cidrs }}
  to:
  {{- range . }}
  - ipBlock:
      cidr: {{ . | quote }}
  {{- end }}
  {{- end }}
{{- end }}
{{- if or $policy.dns (include "portcullis.policy.anyPulled" .) }}
- ports:
  - protocol: UDP
    port: 53
  - protocol: TCP
    port: 53
{{- end }}
{{- end -}}
