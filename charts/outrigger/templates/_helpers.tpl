{{/* Names are fixed: proxies and the control plane spell them alike, and webhook configurations are one per cluster. */}}
{{- define "outrigger.name" -}}
outrigger-control-plane
{{- end }}

{{- define "outrigger.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* What a selector may use: it must not change as long as the release lives. */}}
{{- define "outrigger.selectorLabels" -}}
app.kubernetes.io/name: outrigger
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "outrigger.labels" -}}
{{ include "outrigger.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: control-plane
app.kubernetes.io/part-of: outrigger
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ include "outrigger.chart" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Both programs are in one image. A digest says more than a tag. */}}
{{- define "outrigger.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Namespaces whose pods no webhook of ours ever sees, so that the mesh can always restart and kube-system never waits for it. */}}
{{- define "outrigger.exempt" -}}
{{- concat (list .Release.Namespace "kube-system") .Values.injection.exemptNamespaces | uniq | toJson }}
{{- end }}

{{/*
caBundle of a webhook as the cluster has it: the control plane writes it, and an upgrade must not blank it. Empty before the first
installation, and wherever the cluster cannot be asked (`helm template`); the control plane then writes it.
Arguments: kind, configuration, webhook.
*/}}
{{- define "outrigger.caBundle" -}}
{{- $found := lookup "admissionregistration.k8s.io/v1" .kind "" .configuration -}}
{{- range ($found).webhooks -}}
{{- if and (eq .name $.webhook) .clientConfig.caBundle }}
caBundle: {{ .clientConfig.caBundle }}
{{- end }}
{{- end }}
{{- end }}

{{/* What both mutating webhooks have alike. Arguments: root, webhook (the arguments of outrigger.caBundle). */}}
{{- define "outrigger.injection" -}}
{{- $values := .root.Values.injection -}}
clientConfig:
  service:
    namespace: {{ .root.Release.Namespace }}
    name: outrigger-webhook
    path: /mutate
    port: 443
  {{- include "outrigger.caBundle" .webhook | nindent 2 }}
failurePolicy: {{ $values.failurePolicy }}
timeoutSeconds: {{ $values.timeoutSeconds }}
# Containers that other webhooks add later have probes too.
reinvocationPolicy: IfNeeded
sideEffects: None
admissionReviewVersions: [v1]
matchPolicy: Equivalent
rules:
  - apiGroups: [""]
    apiVersions: [v1]
    operations: [CREATE]
    resources: [pods]
    scope: Namespaced
{{- end }}
