{{/* What selects objects of this grid. */}}
{{- define "wattle.instanceLabels" -}}
app.kubernetes.io/name: wattle
app.kubernetes.io/instance: {{ include "wattle.name" . | quote }}
{{- end -}}

{{/* What selects all its pods, nodes and arbiter. */}}
{{- define "wattle.memberLabels" -}}
{{ include "wattle.instanceLabels" . }}
wattle.dev/member: "true"
{{- end -}}

{{/* What all its objects have. */}}
{{- define "wattle.labels" -}}
{{ include "wattle.instanceLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/*
Metadata of an object. Takes the context, the name, and perhaps labels, annotations and moreLabels, over which the chart's own go:
they select.
*/}}
{{- define "wattle.metadata" -}}
{{- $values := .context.Values -}}
{{- $labels := merge (include "wattle.labels" .context | fromYaml) (default dict .labels) (default dict .moreLabels) $values.labels -}}
{{- $annotations := merge (dict) (default dict .annotations) $values.annotations -}}
metadata:
  name: {{ .name | quote }}
  namespace: {{ .context.Release.Namespace | quote }}
  labels:
    {{- toYaml $labels | nindent 4 }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
