{{/* Names, labels, and everything else that several templates must agree on. */}}

{{- define "chandlery.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 52 characters: the pods of a StatefulSet have a label with the name and a hash of ten characters. */}}
{{- define "chandlery.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "chandlery.headless" -}}
{{ include "chandlery.fullname" . }}-headless
{{- end }}

{{- define "chandlery.selectorLabels" -}}
app.kubernetes.io/name: {{ include "chandlery.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "chandlery.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Labels for the pod of helm test. They differ from the selector, or the Services would send it requests. */}}
{{- define "chandlery.testLabels" -}}
app.kubernetes.io/name: {{ printf "%s-test" (include "chandlery.name" . | trunc 58 | trimSuffix "-") | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Labels without the chart's version: a new version of the chart alone need not replace the pods. */}}
{{- define "chandlery.ownLabels" -}}
{{ include "chandlery.selectorLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | trimAll "-_." | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: {{ include "chandlery.name" . | quote }}
{{- end }}

{{/* Labels of the pods. Values may change all except those that Services select by. */}}
{{- define "chandlery.podLabels" -}}
{{- $fixed := include "chandlery.selectorLabels" . | fromYaml }}
{{- $own := include "chandlery.ownLabels" . | fromYaml }}
{{- toYaml (mergeOverwrite dict $own (.Values.commonLabels | default dict) (.Values.podLabels | default dict) $fixed) }}
{{- end }}

{{/*
Returns the name, namespace, labels and annotations of an object. Takes a dict with root and name, and optionally
namespace, labels, annotations, and fixed: labels that values cannot change.
*/}}
{{- define "chandlery.metadata" -}}
{{- $fixed := mergeOverwrite (dict "helm.sh/chart" (include "chandlery.chart" .root)) (include "chandlery.selectorLabels" .root | fromYaml) (.fixed | default dict) }}
{{- $own := include "chandlery.ownLabels" .root | fromYaml -}}
name: {{ .name | quote }}
namespace: {{ .namespace | default .root.Release.Namespace | quote }}
labels:
  {{- mergeOverwrite dict $own (.root.Values.commonLabels | default dict) (.labels | default dict) $fixed | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) (.root.Values.commonAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "chandlery.image" -}}
{{- with .Values.image }}
{{- $repository := empty .registry | ternary .repository (printf "%s/%s" .registry .repository) }}
{{- if .digest }}
{{- printf "%s@%s" $repository .digest }}
{{- else }}
{{- printf "%s:%s" $repository (.tag | default $.Chart.AppVersion) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "chandlery.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "chandlery.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* Returns a section of config as JSON, {} if it is null or missing. Takes a list of the map and the key. */}}
{{- define "chandlery.section" -}}
{{- $section := get (first . | default dict) (last .) }}
{{- toJson ($section | default dict) }}
{{- end }}

{{/* Returns the host to listen on by default: every address of the pod. */}}
{{- define "chandlery.anyAddress" -}}
{{- $dual := hasSuffix "DualStack" (.Values.service.ipFamilyPolicy | default "") }}
{{- or $dual (has "IPv6" .Values.service.ipFamilies) | ternary "[::]" "0.0.0.0" }}
{{- end }}

{{- define "chandlery.listen" -}}
{{- $listen := get (.Values.config | default dict) "listen" | default (printf "%s:5000" (include "chandlery.anyAddress" .)) }}
{{- if regexMatch "^(localhost|127\\.[0-9.]+|\\[::1\\]):" $listen }}
{{- fail (printf "config.listen is %s: nodes and Services connect to the pod's address. Leave it out." $listen) }}
{{- end }}
{{- $listen }}
{{- end }}

{{- define "chandlery.adminListen" -}}
{{- $admin := include "chandlery.section" (list .Values.config "admin") | fromJson }}
{{- $listen := $admin.listen | default (printf "%s:5001" (include "chandlery.anyAddress" .)) }}
{{- if regexMatch "^(localhost|127\\.[0-9.]+|\\[::1\\]):" $listen }}
{{- fail (printf "config.admin.listen is %s: the kubelet's probes and Prometheus connect to the pod's address. Leave it out." $listen) }}
{{- end }}
{{- $listen }}
{{- end }}

{{- define "chandlery.directory" -}}
{{- $storage := include "chandlery.section" (list .Values.config "storage") | fromJson }}
{{- $directory := $storage.directory | default "/var/lib/chandlery" }}
{{- if not (hasPrefix "/" $directory) }}
{{- fail (printf "config.storage.directory is %s: the volume is mounted there, so write an absolute path, or leave it out." $directory) }}
{{- end }}
{{- $directory }}
{{- end }}

{{/* Returns the port of a listen address. */}}
{{- define "chandlery.portOf" -}}
{{- regexFind "[0-9]+$" . }}
{{- end }}

{{/* Returns the name of the Secret with the certificate and key of the registry API, or nothing. */}}
{{- define "chandlery.tlsSecret" -}}
{{- if and .Values.tls.certManager.enabled .Values.tls.existingSecret }}
{{- fail "tls.certManager.enabled and tls.existingSecret exclude each other: keep one." }}
{{- end }}
{{- if .Values.tls.certManager.enabled }}
{{- printf "%s-tls" (include "chandlery.fullname" .) }}
{{- else }}
{{- .Values.tls.existingSecret }}
{{- end }}
{{- end }}

{{- define "chandlery.scheme" -}}
{{- $own := get (.Values.config | default dict) "tls" }}
{{- empty (or $own (include "chandlery.tlsSecret" .)) | ternary "http" "https" }}
{{- end }}

{{/* Returns an address as it is written in URLs. */}}
{{- define "chandlery.urlHost" -}}
{{- contains ":" . | ternary (printf "[%s]" .) . }}
{{- end }}

{{/* Returns the addresses that nodes are known to use, as a JSON list. */}}
{{- define "chandlery.knownAddresses" -}}
{{- $port := eq .Values.service.type "NodePort" | ternary "127.0.0.1" "" }}
{{- $balancer := eq .Values.service.type "LoadBalancer" | ternary .Values.service.loadBalancerIP "" }}
{{- $host := .Values.hostPort.enabled | ternary .Values.hostPort.hostIP "" }}
{{- list .Values.service.clusterIP $port $balancer $host | compact | toJson }}
{{- end }}

{{/* Returns the name of the Secret with the admin token, or nothing. */}}
{{- define "chandlery.adminTokenSecret" -}}
{{- with .Values.admin.token }}
{{- if .existingSecret }}
{{- .existingSecret }}
{{- else if .generate }}
{{- printf "%s-admin" (include "chandlery.fullname" $) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Returns the seconds of a duration in the configuration, such as 1m30s, rounded up. */}}
{{- define "chandlery.seconds" -}}
{{- $ms := 0 }}
{{- range regexFindAll "[0-9]+(ms|d|h|m|s)" (toString .) -1 }}
{{- $amount := regexFind "^[0-9]+" . | int64 }}
{{- $unit := dict "d" 86400000 "h" 3600000 "m" 60000 "s" 1000 "ms" 1 }}
{{- $ms = add $ms (mul $amount (get $unit (regexFind "[a-z]+$" .))) }}
{{- end }}
{{- div (add $ms 999) 1000 }}
{{- end }}

{{/* Returns the seconds before Kubernetes kills a pod: more than the server needs to stop on its own. */}}
{{- define "chandlery.gracePeriod" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds }}
{{- $config := .Values.config | default dict }}
{{- $delay := include "chandlery.seconds" ($config.shutdownDelay | default "0s") | int }}
{{- $timeout := include "chandlery.seconds" ($config.shutdownTimeout | default "30s") | int }}
{{- add $delay $timeout 15 }}
{{- else }}
{{- .Values.terminationGracePeriodSeconds | int }}
{{- end }}
{{- end }}

{{/* Returns the bytes of a Kubernetes quantity such as 50Gi, or nothing if it is not one. */}}
{{- define "chandlery.bytes" -}}
{{- $text := toString . }}
{{- if regexMatch "^[0-9]+([KMGTP]i|[kMGTP])?$" $text }}
{{- $amount := regexFind "^[0-9]+" $text | int64 }}
{{- range $i, $unit := list "k" "M" "G" "T" "P" }}
{{- $isBinary := or (hasSuffix (printf "%si" $unit) $text) (hasSuffix (printf "%si" (upper $unit)) $text) }}
{{- if or $isBinary (hasSuffix $unit $text) }}
{{- range until (add1 $i | int) }}
{{- $amount = mul $amount ($isBinary | ternary 1024 1000) }}
{{- end }}
{{- end }}
{{- end }}
{{- $amount }}
{{- end }}
{{- end }}

{{/* Returns the bytes of a server's volume, if the chart knows them. */}}
{{- define "chandlery.volumeBytes" -}}
{{- with .Values.persistence }}
{{- if eq .type "volumeClaimTemplate" }}
{{- include "chandlery.bytes" .size }}
{{- else if eq .type "emptyDir" }}
{{- include "chandlery.bytes" .emptyDir.sizeLimit }}
{{- end }}
{{- end }}
{{- end }}

{{/* Refuses values that cannot work, before anything is created, and says what to do. */}}
{{- define "chandlery.validate" -}}
{{- with .Values.persistence }}
{{- if and (eq .type "existingClaim") (not .existingClaim) }}
{{- fail "persistence.type is existingClaim: name the claim in persistence.existingClaim." }}
{{- end }}
{{- if and (ne .type "existingClaim") .existingClaim }}
{{- fail (printf "persistence.existingClaim is set, but persistence.type is %s: write type: existingClaim." .type) }}
{{- end }}
{{- if and (eq .type "existingClaim") (gt (int $.Values.replicaCount) 1) }}
{{- fail "replicaCount is above 1 with one existing claim, but a directory belongs to one server: use persistence.type volumeClaimTemplate." }}
{{- end }}
{{- if and (eq .type "hostPath") (not .hostPath.path) }}
{{- fail "persistence.type is hostPath: name the directory in persistence.hostPath.path." }}
{{- end }}
{{- end }}
{{- range $registry, $mirror := (.Values.config | default dict).mirrors }}
{{- $rewrite := get ($mirror | default dict) "rewrite" }}
{{- $maps := kindIs "map" $rewrite | ternary (list $rewrite) ($rewrite | default list) }}
{{- range $maps }}
{{- if gt (len .) 1 }}
{{- fail (printf "config.mirrors.%q.rewrite has several rules in one map, and Helm sorts maps, so their order would be lost: write a list with one rule each: rewrite: [{\"^a$\": \"b\"}, {\"^c$\": \"d\"}]." $registry) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.registries .Values.registriesSecret.name }}
{{- fail "registries and registriesSecret.name exclude each other: keep one." }}
{{- end }}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.certManager.issuerRef.name) }}
{{- fail "tls.certManager.enabled: name the issuer in tls.certManager.issuerRef, such as {name: internal-ca, kind: ClusterIssuer}." }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if has .name (list "CHANDLERY_CONFIG" "CHANDLERY_REGISTRIES" "CHANDLERY_LISTEN" "CHANDLERY_ADMIN_LISTEN" "CHANDLERY_DIRECTORY") }}
{{- fail (printf "extraEnv sets %s, which the chart sets from its values: write it in config (or registries)." .name) }}
{{- end }}
{{- end }}
{{- $bundles := list }}
{{- range .Values.caBundles }}{{- $bundles = append $bundles .name }}{{- end }}
{{- range $key, $names := merge (dict "caBundles" $bundles) .Values.credentials }}
{{- if ne (len $names) (len (uniq $names)) }}
{{- fail (printf "%s: a name is listed twice, but each name is a directory in the pod. Keep one." $key) }}
{{- end }}
{{- end }}
{{- $trusted := 0 }}
{{- range .Values.caBundles }}
{{- if eq (empty .configMap) (empty .secret) }}
{{- fail (printf "caBundles: %q needs either configMap or secret." .name) }}
{{- end }}
{{- if .trusted }}{{- $trusted = add1 $trusted }}{{- end }}
{{- end }}
{{- if gt (int $trusted) 1 }}
{{- fail "caBundles: only one entry may have trusted; put the authorities into one file." }}
{{- end }}
{{- end }}

{{/* Returns a Kubernetes quantity as a string: Helm reads a long number as a float. */}}
{{- define "chandlery.quantity" -}}
{{- kindIs "float64" . | ternary (printf "%.0f" (. | float64)) (toString .) }}
{{- end }}
