{{/* The name of everything that the chart makes; "wayleave" for a release of that name. */}}
{{- define "wayleave.fullname" -}}
{{- $name := .Values.nameOverride | default "wayleave" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" (.Release.Name | trunc (int (sub 39 (len $name))) | trimSuffix "-") $name }}
{{- end -}}
{{- end }}

{{/* Where the operator runs. */}}
{{- define "wayleave.namespace" -}}
{{ .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "wayleave.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "wayleave.fullname" .) }}
{{- end }}

{{/* The operator knows the admission policies by the first. */}}
{{- define "wayleave.labels" -}}
app.kubernetes.io/name: wayleave
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
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
  namespace: {{ include "wayleave.namespace" . }}
{{- end }}
