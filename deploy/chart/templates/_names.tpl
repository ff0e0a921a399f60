{{/* The grid's name. StatefulSets label their pods with NAME-arbiter and a hash, in 63 characters. */}}
{{- define "wattle.name" -}}
{{- $name := default .Release.Name .Values.fullnameOverride -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,42}[a-z0-9])?$" $name) -}}
{{- fail (printf "the name %q cannot be a grid's: at most 44 of a-z, 0-9 and -, a letter first (fullnameOverride says another)" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "wattle.secretName" -}}
{{- default (printf "%s-secret" (include "wattle.name" .)) .Values.secret.existingSecret -}}
{{- end -}}

{{- define "wattle.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "wattle.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "wattle.image" -}}
{{- $image := printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $image .Values.image.digest -}}
{{- else -}}
{{- $image -}}
{{- end -}}
{{- end -}}

{{- define "wattle.hasArbiter" -}}
{{- if and .Values.arbiter.enabled (eq (int .Values.replicas) 2) -}}true{{- end -}}
{{- end -}}
