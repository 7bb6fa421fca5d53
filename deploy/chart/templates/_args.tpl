{{/* Flags of the plugin that the chart sets, as a YAML list. */}}
{{- define "portcullis.args" -}}
{{- $v := .Values -}}
- --drivername=secrets-store.csi.k8s.io
- --cluster-name={{ $v.clusterName }}
- --endpoint=unix:///csi/csi.sock
- --kubelet-registration-path={{ include "portcullis.pluginDir" . }}/csi.sock
- --plugin-registration-dir=/registration
- --kubelet-root={{ $v.linux.kubeletRootDir }}
- --host-proc=/host/proc
- --state-dir={{ $v.stateDir }}
- --policy=/policy/{{ $v.policy.configMap.key }}
- --policy-poll-interval={{ $v.policy.pollInterval }}
- --provider-volume={{ $v.linux.providersDir }}
- --additional-provider-volume-paths={{ join "," $v.linux.additionalProvidersDirs }}
- --provider-concurrency={{ int $v.providerConcurrency }}
- --max-call-recv-msg-size={{ int64 $v.maxCallRecvMsgSize }}
- --max-volume-bytes={{ include "portcullis.bytes" (dict "name" "maxVolumeBytes" "value" $v.maxVolumeBytes) }}
- --max-node-bytes={{ include "portcullis.bytes" (dict "name" "maxNodeBytes" "value" $v.maxNodeBytes) }}
- --audit-retention-bytes={{ include "portcullis.bytes" (dict "name" "audit.retentionBytes" "value" $v.audit.retentionBytes) }}
- --audit-epoch-bytes={{ include "portcullis.bytes" (dict "name" "audit.epochBytes" "value" $v.audit.epochBytes) }}
- --swap-protection={{ $v.swapProtection }}
- --enable-secret-rotation={{ $v.enableSecretRotation }}
- --rotation-poll-interval={{ $v.rotationPollInterval }}
- --provider-health-check={{ $v.providerHealthCheck }}
- --provider-health-check-interval={{ $v.providerHealthCheckInterval }}
- --metrics-addr={{ $v.linux.metricsAddr }}
- --health-addr=:{{ int $v.livenessProbe.port }}
- --log-format-json={{ $v.logFormatJSON }}
- --v={{ int $v.logVerbosity }}
{{- with $v.providerUIDs }}
- --provider-uid={{ range $i, $uid := . }}{{ if $i }},{{ end }}{{ int64 $uid }}{{ end }}
{{- end }}
{{- with $v.apiAudiences }}
- --api-audiences={{ join "," . }}
{{- end }}
{{- with $v.seLinuxContext }}
- {{ printf "--selinux-context=%s" . | quote }}
{{- end }}
{{- if $v.pprof.enabled }}
- --enable-pprof
- --pprof-port={{ int $v.pprof.port }}
{{- end }}
{{- if $v.policy.allowUnsigned }}
- --allow-unsigned-policy
{{- end }}
{{- end -}}

{{/* Refuses flags in extraArgs that the chart sets, or has a value for: given
twice the last counts, and the manifest would say one thing and do another. */}}
{{- define "portcullis.checkExtraArgs" -}}
{{- $taken := list "nodeid" "provider-uid" "api-audiences" "selinux-context" "enable-pprof" "pprof-port" "allow-unsigned-policy" -}}
{{- range include "portcullis.args" . | fromYamlArray -}}
{{- $taken = append $taken (regexReplaceAll "^--([a-z-]+)(=.*)?$" . "${1}") -}}
{{- end -}}
{{- range .Values.extraArgs -}}
{{- $flag := regexReplaceAll "^--?([A-Za-z0-9-]+)((=|\\s).*)?$" . "${1}" -}}
{{- if has $flag $taken -}}
{{- fail (printf "extraArgs: --%s is set by the chart; hint: README.md names the value for it, if it is one to change" $flag) -}}
{{- end -}}
{{- end -}}
{{- end -}}
