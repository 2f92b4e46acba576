{{/* Returns the configuration file of the server: values.config, with the additions of other values. */}}

{{- define "chandlery.configFile" -}}
{{- $config := deepCopy (.Values.config | default dict) }}
{{- $added := dict }}
{{- if include "chandlery.tlsSecret" . }}
{{- if $config.tls }}
{{- fail "both config.tls and tls.existingSecret or tls.certManager are set: keep one." }}
{{- end }}
{{- $_ := set $added "tls" (dict "certFile" "/etc/chandlery/tls/tls.crt" "keyFile" "/etc/chandlery/tls/tls.key") }}
{{- end }}
{{- if include "chandlery.adminTokenSecret" . }}
{{- $admin := include "chandlery.section" (list $config "admin") | fromJson }}
{{- if $admin.token }}
{{- fail "both config.admin.token and admin.token are set: keep one." }}
{{- end }}
{{- $token := dict "file" (printf "/etc/chandlery/admin/%s" .Values.admin.token.key) }}
{{- $_ := set $added "admin" (set $admin "token" $token) }}
{{- end }}
{{- if .Values.credentials.dockerConfigSecrets }}
{{- $own := $config.dockerConfig | default list }}
{{- $files := kindIs "slice" $own | ternary $own (list $own) }}
{{- range .Values.credentials.dockerConfigSecrets }}
{{- $files = append $files (printf "/etc/chandlery/docker-config/%s/.dockerconfigjson" .) }}
{{- end }}
{{- $_ := set $added "dockerConfig" $files }}
{{- end }}
{{- $merged := merge $added $config }}
{{- empty $merged | ternary "{}" (toYaml $merged) }}
{{- end }}

{{/* Returns true if config contains a literal secret, so that it must be stored in a Secret. */}}
{{- define "chandlery.configHoldsSecret" -}}
{{- $admin := include "chandlery.section" (list .Values.config "admin") | fromJson }}
{{- if and $admin.token (kindIs "string" $admin.token) }}true{{- end }}
{{- range $host, $entry := include "chandlery.section" (list .Values.config "configs") | fromJson }}
{{- $auth := get ($entry | default dict) "auth" | default list }}
{{- range kindIs "slice" $auth | ternary $auth (list $auth) }}
{{- $entry := . }}
{{- range list "password" "auth" "identity_token" }}
{{- $value := get $entry . }}
{{- if and $value (kindIs "string" $value) }}true{{- end }}
{{- end }}
{{- end }}
{{- if contains "@" (get ($entry | default dict) "proxy" | default "") }}true{{- end }}
{{- end }}
{{- end }}

{{/* Returns a checksum of the configuration if every change of it must replace the pods. */}}
{{- define "chandlery.restartKeys" -}}
{{- if .Values.restartOnConfigChange }}
{{- printf "%s%s" (include "chandlery.configFile" .) .Values.registries | sha256sum }}
{{- end }}
{{- end }}
