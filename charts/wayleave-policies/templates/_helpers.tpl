{{- define "wayleave-policies.labels" -}}
app.kubernetes.io/name: wayleave-policies
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
