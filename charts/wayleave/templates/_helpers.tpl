{{/* The name of everything that the chart makes; "wayleave" for a release of that name. */}}
{{- define "wayleave.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains "wayleave" .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-wayleave" (.Release.Name | trunc 31 | trimSuffix "-") }}
{{- end -}}
{{- end }}

{{- define "wayleave.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "wayleave.fullname" .) }}
{{- end }}

{{- define "wayleave.labels" -}}
app.kubernetes.io/name: wayleave
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "wayleave.selector" -}}
app.kubernetes.io/name: wayleave
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "wayleave.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* The operator as subject of a binding. */}}
{{- define "wayleave.subject" -}}
- kind: ServiceAccount
  name: {{ include "wayleave.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
