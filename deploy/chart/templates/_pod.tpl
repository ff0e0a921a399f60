{{/* The pods of the nodes or of the arbiter, as a StatefulSet has them. Takes the context, the component and its resources. */}}
{{- define "wattle.podTemplate" -}}
{{- $values := .context.Values -}}
{{- $labels := dict "app.kubernetes.io/component" .component -}}
metadata:
  labels:
    {{- merge (include "wattle.memberLabels" .context | fromYaml) $labels $values.podLabels $values.labels | toYaml | nindent 4 }}
  annotations:
    # Pods are replaced when settings change. For how many nodes a new grid waits is left out: scaling replaces nobody.
    checksum/config: {{ include "wattle.settings" .context | sha256sum }}
    {{- with merge (dict) $values.podAnnotations $values.annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "wattle.serviceAccountName" .context | quote }}
  # Nodes ask the API server where the others are.
  automountServiceAccountToken: true
  # Variables that Kubernetes makes of the names of Services could be taken for settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add (int $values.stopSeconds) 30 }}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- with include "wattle.placement" .context | fromYaml }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  containers:
    - name: wattle
      {{- include "wattle.container" . | nindent 6 }}
  volumes:
    - name: config
      configMap:
        name: {{ include "wattle.name" .context }}-config
    - name: secret
      secret:
        secretName: {{ include "wattle.secretName" .context | quote }}
        # For the owner and the group to read.
        defaultMode: 288
    - name: tmp
      emptyDir: {}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Where a pod runs. */}}
{{- define "wattle.placement" -}}
{{- $selector := dict "matchLabels" (include "wattle.memberLabels" . | fromYaml) -}}
{{- $constraints := list -}}
{{- with .Values.spread.zones -}}
{{- if ne . "None" -}}
{{- $constraints = append $constraints (dict "maxSkew" 1 "topologyKey" "topology.kubernetes.io/zone" "whenUnsatisfiable" . "labelSelector" $selector) -}}
{{- end -}}
{{- end -}}
{{- with .Values.spread.hosts -}}
{{- if ne . "None" -}}
{{- $constraints = append $constraints (dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" . "labelSelector" $selector) -}}
{{- end -}}
{{- end -}}
{{- with concat $constraints .Values.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end -}}
