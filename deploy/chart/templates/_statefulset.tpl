{{/* The StatefulSet of the nodes or of the arbiter. Takes the context, its name, component, number of pods, resources and volume size. */}}
{{- define "wattle.statefulSet" -}}
apiVersion: apps/v1
kind: StatefulSet
{{ include "wattle.metadata" (dict "context" .context "name" .name "labels" (dict "app.kubernetes.io/component" .component)) }}
spec:
  replicas: {{ .replicas }}
  serviceName: {{ include "wattle.name" .context }}-nodes
  # A grid is founded by all of them, so none waits for another. They are replaced one by one all the same.
  podManagementPolicy: Parallel
  selector:
    matchLabels:
      {{- include "wattle.memberLabels" .context | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
  template:
    {{- include "wattle.podTemplate" . | nindent 4 }}
  {{- with .context.Values.persistence }}
  {{- if .enabled }}
  persistentVolumeClaimRetentionPolicy:
    whenDeleted: {{ .whenDeleted }}
    whenScaled: {{ .whenScaled }}
  volumeClaimTemplates:
    - metadata:
        name: data
      spec:
        accessModes:
          - ReadWriteOnce
        {{- if eq .storageClass "-" }}
        storageClassName: ""
        {{- else if .storageClass }}
        storageClassName: {{ .storageClass | quote }}
        {{- end }}
        resources:
          requests:
            storage: {{ $.volumeSize | toString | quote }}
  {{- end }}
  {{- end }}
{{- end -}}
