{{/*
The labels that select a component's pods. They are what network policies select, so they are the same whatever the
release is called; one namespace holds one release of this chart.
*/}}
{{- define "platform.selector" -}}
app.kubernetes.io/name: {{ .name | quote }}
app.kubernetes.io/part-of: {{ .values.platform | quote }}
{{- end -}}

{{- define "platform.level" -}}
{{ .values.labelPrefix }}/level: {{ .component.level | quote }}
{{- end -}}

{{- define "platform.labels" -}}
{{ include "platform.selector" . }}
app.kubernetes.io/managed-by: {{ .release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .chart.Name .chart.Version | quote }}
{{ include "platform.level" . }}
{{- end -}}

{{/*
An image by its digest where one is locked. A tag can be moved to another image, so admission refuses it when it
enforces; it is here so that the chart renders before `bulwark lock` has run. "latest" is never meant.
*/}}
{{- define "platform.image" -}}
{{- $image := .component.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else if and $image.tag (ne $image.tag "latest") -}}
{{ $image.repository }}:{{ $image.tag }}
{{- else -}}
{{ fail (printf "components.%s.image has neither a digest nor a tag other than latest; run `bulwark lock` and `bulwark render`" .name) }}
{{- end -}}
{{- end -}}

{{/*
The seccomp profile: the component's own once the nodes have it, else the container runtime's. A pod that names a
profile which its node lacks does not start.
*/}}
{{- define "platform.seccomp" -}}
{{- if .values.seccomp.localhostReady -}}
type: Localhost
localhostProfile: {{ .component.seccompProfile | quote }}
{{- else -}}
type: RuntimeDefault
{{- end -}}
{{- end -}}

{{- define "platform.probe" -}}
{{- if .path -}}
httpGet:
  path: {{ .path | quote }}
  port: {{ .port | quote }}
{{- else -}}
tcpSocket:
  port: {{ .port | quote }}
{{- end -}}
{{- end -}}

{{/* A component's pod: metadata and spec. */}}
{{- define "platform.pod" -}}
metadata:
  labels:
    {{- include "platform.selector" . | nindent 4 }}
    {{- include "platform.level" . | nindent 4 }}
    {{- with .component.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ .component.serviceAccount.name | quote }}
  automountServiceAccountToken: {{ .component.serviceAccount.mountToken }}
  enableServiceLinks: false
  securityContext:
    {{- toYaml .component.podSecurityContext | nindent 4 }}
    seccompProfile:
      {{- include "platform.seccomp" . | nindent 6 }}
  containers:
    - name: {{ .name | quote }}
      image: {{ include "platform.image" . | quote }}
      imagePullPolicy: {{ if .component.image.digest }}IfNotPresent{{ else }}Always{{ end }}
      securityContext:
        {{- toYaml .component.securityContext | nindent 8 }}
        seccompProfile:
          {{- include "platform.seccomp" . | nindent 10 }}
      {{- with .component.env }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .component.secrets }}
      envFrom:
        {{- range . }}
        - secretRef:
            name: {{ . | quote }}
        {{- end }}
      {{- end }}
      {{- with .component.ports }}
      ports:
        {{- range . }}
        - name: {{ .name | quote }}
          containerPort: {{ .port }}
          protocol: {{ .protocol }}
        {{- end }}
      {{- end }}
      {{- with .component.probe }}
      startupProbe:
        {{- include "platform.probe" . | nindent 8 }}
        periodSeconds: 2
        failureThreshold: 60
      readinessProbe:
        {{- include "platform.probe" . | nindent 8 }}
        periodSeconds: 5
      livenessProbe:
        {{- include "platform.probe" . | nindent 8 }}
        periodSeconds: 10
        failureThreshold: 6
      {{- end }}
      resources:
        {{- toYaml .component.resources | nindent 8 }}
      {{- if or .component.writes .component.storage }}
      volumeMounts:
        {{- range concat (.component.writes | default list) (.component.storage | default list) }}
        - name: {{ .name | quote }}
          mountPath: {{ .path | quote }}
        {{- end }}
      {{- end }}
  {{- $claims := and .component.storage (ne .component.kind "StatefulSet") }}
  {{- if or .component.writes $claims }}
  volumes:
    {{- range .component.writes }}
    - name: {{ .name | quote }}
      emptyDir:
        sizeLimit: {{ .sizeLimit | quote }}
    {{- end }}
    {{- if $claims }}
    {{- $name := .name }}
    {{- range .component.storage }}
    - name: {{ .name | quote }}
      persistentVolumeClaim:
        claimName: {{ printf "%s-%s" $name .name | quote }}
    {{- end }}
    {{- end }}
  {{- end }}
{{- end -}}
