{{/* The container of a node or of the arbiter. Takes the context, the component and its resources. */}}
{{- define "wattle.container" -}}
{{- $values := .context.Values -}}
image: {{ include "wattle.image" .context | quote }}
imagePullPolicy: {{ $values.image.pullPolicy }}
args:
  {{- include "wattle.arguments" . | nindent 2 }}
env:
  - name: POD_IP
    valueFrom:
      fieldRef:
        fieldPath: status.podIP
  - name: POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  - name: POD_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
  {{- with $values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - name: api
    containerPort: 7117
  - name: peers
    containerPort: 7118
  - name: http
    containerPort: 7119
{{ include "wattle.probes" . }}
{{- with .resources }}
resources:
  {{- range $kind, $quantities := . }}
  {{ $kind }}:
    {{- range $name, $quantity := $quantities }}
    {{ $name }}: {{ $quantity | toString | quote }}
    {{- end }}
  {{- end }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop:
      - ALL
volumeMounts:
  - name: config
    mountPath: /etc/wattle/config
    readOnly: true
  - name: secret
    mountPath: /etc/wattle/secret
    readOnly: true
  - name: tmp
    mountPath: /tmp
  {{- if $values.persistence.enabled }}
  - name: data
    mountPath: /var/lib/wattle
  {{- end }}
  {{- with $values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "wattle.arguments" -}}
{{- $name := include "wattle.name" .context -}}
{{- $values := .context.Values -}}
- serve
- --listen
- {{ printf "%s:7117" $values.listenAddress | quote }}
- --peer-listen
- {{ printf "%s:7118" $values.listenAddress | quote }}
- --http-listen
- {{ printf "%s:7119" $values.listenAddress | quote }}
# Nobody is asked who they are: the NetworkPolicy keeps others out.
- --insecure
- --advertise
- $(POD_IP)
- --discovery
- kubernetes
- --service
- {{ $name }}-nodes
- --grid
- {{ $name | quote }}
- --grid-secret-file
- /etc/wattle/secret/secret
- --config
- /etc/wattle/config/config.toml
- --stop-seconds
- {{ $values.stopSeconds | quote }}
- --log-format
- json
{{- if $values.persistence.enabled }}
- --data-dir
- /var/lib/wattle
{{- end }}
{{- if eq .component "arbiter" }}
- --arbiter
{{- end }}
{{- with $values.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "wattle.probes" -}}
# Alive is who turns, also while it waits for its grid; ready is who has copies of all that it holds.
startupProbe:
  httpGet:
    path: /livez
    port: http
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /livez
    port: http
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: http
  periodSeconds: 5
  timeoutSeconds: 5
terminationMessagePolicy: FallbackToLogsOnError
{{- end -}}
