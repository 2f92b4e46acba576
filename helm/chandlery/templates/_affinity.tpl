{{/* Returns the affinity from the values. Without one, servers avoid each other's nodes. */}}
{{- define "chandlery.affinity" -}}
{{- if .Values.affinity }}
affinity:
  {{- toYaml .Values.affinity | nindent 2 }}
{{- else }}
affinity:
  podAntiAffinity:
    {{- if or .Values.hostPort.enabled (eq .Values.persistence.type "hostPath") }}
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "chandlery.selectorLabels" . | nindent 12 }}
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "chandlery.selectorLabels" . | nindent 14 }}
    {{- end }}
{{- end }}
{{- end }}
