{{/* The operator's user name. */}}
{{- define "wayleave.operator" -}}
system:serviceaccount:{{ include "wayleave.namespace" . }}:{{ include "wayleave.serviceAccount" . }}
{{- end }}

{{/* CEL: the names of the ClusterRoles that enrol a namespace. */}}
{{- define "wayleave.enrolmentRoles" -}}
{{ prepend .Values.enrolment.otherClusterRoles .Values.enrolment.name | toJson }}
{{- end }}

{{/* CEL: the namespaces that can't be enrolled, beside kube-*. Helm keeps its Secrets in the release's. */}}
{{- define "wayleave.protected" -}}
{{ concat (list (include "wayleave.namespace" .) .Values.identityNamespace.name .Release.Namespace) .Values.admission.protectedNamespaces | uniq | toJson }}
{{- end }}

{{/* CEL variables of the policies: who writes. */}}
{{- define "wayleave.writers" -}}
- name: operator
  expression: request.userInfo.username == '{{ include "wayleave.operator" . }}'
# With and without --use-service-account-credentials.
- name: controller
  expression: >-
    request.userInfo.username in ['system:serviceaccount:kube-system:generic-garbage-collector',
    'system:serviceaccount:kube-system:namespace-controller', 'system:kube-controller-manager']
{{- end }}

{{/* Head of a policy: dict "root" . "name" "suffix" */}}
{{- define "wayleave.policyHead" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: {{ .kind | default "ValidatingAdmissionPolicy" }}
metadata:
  name: {{ include "wayleave.fullname" .root }}-{{ .name }}
  labels:
    {{- include "wayleave.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
{{- end }}

{{/* Binds the policy of this name: dict "root" . "name" "suffix" */}}
{{- define "wayleave.policyBinding" -}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: {{ .kind | default "ValidatingAdmissionPolicy" }}Binding
metadata:
  name: {{ include "wayleave.fullname" .root }}-{{ .name }}
  labels:
    {{- include "wayleave.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  policyName: {{ include "wayleave.fullname" .root }}-{{ .name }}
  {{- if not .kind }}
  validationActions: [Deny]
  {{- end }}
  {{- with .paramRef }}
  paramRef:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* "true" where objects can be stamped with their writer. */}}
{{- define "wayleave.mutating" -}}
{{- $v := toString .Values.admission.mutating -}}
{{- if and .Values.admission.enabled (or (eq $v "true") (and (eq $v "auto") (.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"))) -}}
true
{{- end -}}
{{- end }}

{{/* CEL variables of requests: who asks, and whether what an approval covers is changed. */}}
{{- define "wayleave.requestVariables" -}}
- name: writer
  expression: request.userInfo.username
- name: delegate
  expression: request.userInfo.username in {{ .Values.admission.delegates.requests | toJson }}
# Who is no person, and can't be asked why.
- name: nobody
  expression: >-
    !variables.delegate && (variables.writer.startsWith('system:serviceaccount:') ||
    variables.writer.startsWith('system:node:') || variables.writer == 'system:anonymous')
- name: create
  expression: request.operation == 'CREATE'
- name: spec
  expression: dyn(object.spec)
- name: old
  expression: "variables.create ? dyn(object.spec) : dyn(oldObject.spec)"
- name: requestedBy
  expression: variables.spec.?requestedBy.orValue('')
- name: oldRequestedBy
  expression: "variables.create ? '' : variables.old.?requestedBy.orValue('')"
- name: contributors
  expression: variables.spec.?contributors.orValue([])
- name: oldContributors
  expression: "variables.create ? [] : variables.old.?contributors.orValue([])"
# What the digest leaves out.
- name: free
  expression: >-
    request.resource.resource == 'partnerintegrations'
    ? ['suspend', 'contributors', 'requestedBy', 'review', 'partner'] : ['suspend', 'contributors', 'requestedBy']
- name: changed
  expression: >-
    !variables.create && !(
    variables.spec.all(k, k in variables.free || (k in variables.old && variables.spec[k] == variables.old[k])) &&
    variables.old.all(k, k in variables.free || k in variables.spec) &&
    (request.resource.resource != 'partnerintegrations' ||
    (variables.spec.partner.id == variables.old.partner.id && variables.spec.partner.name == variables.old.partner.name)))
{{- end }}
