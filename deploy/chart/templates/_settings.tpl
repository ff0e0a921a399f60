{{/* The user's settings as TOML. Numbers of a values file are floating-point here. */}}
{{- define "wattle.settings" -}}
{{- range $name, $value := .Values.config }}
{{- if or (kindIs "string" $value) (kindIs "bool" $value) }}
{{ $name }} = {{ toJson $value }}
{{- else }}
{{ $name }} = {{ int64 $value }}
{{- end }}
{{- end }}
{{- end -}}
