{{/* Flags of the plugin that the chart sets, as a YAML list. */}}
{{- define "portcullis.args" -}}
{{- $v := .Values -}}
{{- $flags := list
  (list "drivername" "secrets-store.csi.k8s.io")
  (list "cluster-name" $v.clusterName)
  (list "endpoint" "unix:///csi/csi.sock")
  (list "kubelet-registration-path" (printf "%s/csi.sock" (include "portcullis.pluginDir" .)))
  (list "plugin-registration-dir" "/registration")
  (list "kubelet-root" $v.linux.kubeletRootDir)
  (list "host-proc" "/host/proc")
  (list "state-dir" $v.stateDir)
  (list "provider-volume" $v.linux.providersDir)
  (list "additional-provider-volume-paths" (join "," ($v.linux.additionalProvidersDirs | default list)))
  (list "provider-concurrency" $v.providerConcurrency)
  (list "max-call-recv-msg-size" $v.maxCallRecvMsgSize)
  (list "max-volume-bytes" (include "portcullis.bytes" (dict "name" "maxVolumeBytes" "value" $v.maxVolumeBytes)))
  (list "max-node-bytes" (include "portcullis.bytes" (dict "name" "maxNodeBytes" "value" $v.maxNodeBytes)))
  (list "audit-retention-bytes" (include "portcullis.bytes" (dict "name" "audit.retentionBytes" "value" $v.audit.retentionBytes)))
  (list "audit-epoch-bytes" (include "portcullis.bytes" (dict "name" "audit.epochBytes" "value" $v.audit.epochBytes)))
  (list "swap-protection" $v.swapProtection)
  (list "enable-secret-rotation" $v.enableSecretRotation)
  (list "rotation-poll-interval" $v.rotationPollInterval)
  (list "provider-health-check" $v.providerHealthCheck)
  (list "provider-health-check-interval" $v.providerHealthCheckInterval)
  (list "metrics-addr" $v.linux.metricsAddr)
  (list "health-addr" (printf ":%d" (int $v.livenessProbe.port)))
  (list "log-format-json" $v.logFormatJSON)
  (list "v" $v.logVerbosity)
-}}
{{- with $v.providerUIDs }}{{ $flags = append $flags (list "provider-uid" (include "portcullis.integers" .)) }}{{ end -}}
{{- with $v.apiAudiences }}{{ $flags = append $flags (list "api-audiences" (join "," .)) }}{{ end -}}
{{- with $v.seLinuxContext }}{{ $flags = append $flags (list "selinux-context" .) }}{{ end -}}
{{- if $v.pprof.enabled }}{{ $flags = concat $flags (list (list "enable-pprof" true) (list "pprof-port" $v.pprof.port)) }}{{ end -}}
{{- include "portcullis.flags" (concat $flags (include "portcullis.policy.flags" . | fromYamlArray)) -}}
{{- end -}}

{{/* Integers with commas between them. */}}
{{- define "portcullis.integers" -}}
{{- range $i, $n := . }}{{ if $i }},{{ end }}{{ int64 $n }}{{ end -}}
{{- end -}}

{{/* Refuses flags in extraArgs that the chart sets, or has a value for: given
twice the last counts, and the manifest would say one thing and do another. */}}
{{- define "portcullis.checkExtraArgs" -}}
{{- $policy := include "portcullis.policy.flagNames" . | fromYamlArray -}}
{{- $node := concat $policy (list "nodeid" "provider-uid" "api-audiences" "selinux-context" "enable-pprof" "pprof-port") -}}
{{- include "portcullis.checkArgs" (dict "name" "extraArgs" "given" .Values.extraArgs "set" (include "portcullis.args" . | fromYamlArray) "taken" $node) -}}
{{- if .Values.webhook.enabled -}}
{{- $webhook := concat $policy (list "namespace" "replica" "cert-dir" "cert-secret" "client-ca" "client-names" "webhook-configuration" "service" "known-providers") -}}
{{- include "portcullis.checkArgs" (dict "name" "webhook.extraArgs" "given" .Values.webhook.extraArgs "set" (include "portcullis.webhook.args" . | fromYamlArray) "taken" $webhook) -}}
{{- end -}}
{{- end -}}

{{- define "portcullis.checkArgs" -}}
{{- $taken := .taken -}}
{{- range .set -}}
{{- $taken = append $taken (regexReplaceAll "^--([a-z-]+)(=.*)?$" . "${1}") -}}
{{- end -}}
{{- $name := .name -}}
{{- range .given -}}
{{- $flag := regexReplaceAll "^--?([A-Za-z0-9-]+)((=|\\s).*)?$" . "${1}" -}}
{{- if has $flag $taken -}}
{{- fail (printf "%s: --%s is set by the chart; hint: README.md names the value for it, if it is one to change" $name $flag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What portcullis doctor has to be told of a release that is not as it expects. */}}
{{- define "portcullis.doctorFlags" -}}
{{- $v := .Values -}}
{{- if ne .Release.Namespace "kube-system" }} --namespace={{ .Release.Namespace }}{{ end -}}
{{- if ne $v.linux.kubeletRootDir "/var/lib/kubelet" }} --kubelet-root={{ $v.linux.kubeletRootDir }}{{ end -}}
{{- if ne $v.stateDir "/var/lib/portcullis" }} --state-dir={{ $v.stateDir }}{{ end -}}
{{- $dirs := join "," (append ($v.linux.additionalProvidersDirs | default list) $v.linux.providersDir) -}}
{{- if ne $dirs "/etc/kubernetes/secrets-store-csi-providers,/var/run/secrets-store-csi-providers" }} --provider-dirs={{ $dirs }}{{ end -}}
{{- with $v.providerUIDs }} --provider-uid={{ include "portcullis.integers" . }}{{ end -}}
{{- if ne $v.policy.configMap.key "bundle.tar.gz" }} --policy=/policy/{{ $v.policy.configMap.key }}{{ end -}}
{{- if ne (int $v.livenessProbe.port) 9808 }} --health-addr=127.0.0.1:{{ int $v.livenessProbe.port }}{{ end -}}
{{- end -}}
