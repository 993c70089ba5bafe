{{- define "plugnmeet-recorder.name" -}}
{{- printf "%s" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "plugnmeet-recorder.labels" -}}
app.kubernetes.io/name: plugnmeet-recorder
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The configuration of a role: `config` of the values, and over it what belongs to the pod. */}}
{{- define "plugnmeet-recorder.config" -}}
{{- $own := .own -}}
{{- $recorder := dict
      "id" "${HOSTNAME}"
      "mode" .mode
      "temporary_dir" "/state/in-progress"
      "state_dir" "/state/node"
      "drain_timeout" (printf "%ds" (sub (int $own.terminationGracePeriodSeconds) 120))
      "copy_to_path" (dict "main_path" "/recordings" "sub_path" .subPath) -}}
{{- if $own.maxLimit }}{{ $_ := set $recorder "max_limit" (int $own.maxLimit) }}{{ end -}}
{{- $node := dict "recorder" $recorder "admin" (dict "listen" "0.0.0.0:8089" "token_file" "/admin/token") -}}
{{- if $own.maxJobs }}{{ $_ := set $node "transcoder" (dict "max_jobs" (int $own.maxJobs)) }}{{ end -}}
{{- toYaml (mustMergeOverwrite (deepCopy .Values.config) $node) -}}
{{- end -}}

{{/* What every pod of a role has: .role, .own (its values), .root. */}}
{{- define "plugnmeet-recorder.pod" -}}
metadata:
  labels:
    {{- include "plugnmeet-recorder.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
  annotations:
    # Kept up to date by the container `protection`: while the pod is busy the cluster autoscaler must not take its node.
    # It would kill after its own --max-graceful-termination-sec (10 min), whatever the grace period says.
    cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
    karpenter.sh/do-not-disrupt: "true"
    # A new configuration needs new pods.
    checksum/config: {{ toJson .root.Values.config | sha256sum }}
    {{- if .root.Values.scrapeAnnotations }}
    prometheus.io/scrape: "true"
    prometheus.io/port: "8089"
    prometheus.io/path: /metrics
    {{- end }}
spec:
  serviceAccountName: {{ include "plugnmeet-recorder.name" .root }}
  terminationGracePeriodSeconds: {{ int .own.terminationGracePeriodSeconds }}
  securityContext: {{- toYaml .root.Values.podSecurityContext | nindent 4 }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" }}
  {{- with index $.own $key }}
  {{ $key }}: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  initContainers:
    - name: protection
      # A native sidecar: it starts before the recorder and ends after it.
      restartPolicy: Always
      image: {{ include "plugnmeet-recorder.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: [/bin/sh, /scripts/protection.sh]
      env:
        - name: POD
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: NAMESPACE
          valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
      resources:
        requests: {cpu: 10m, memory: 16Mi}
        limits: {memory: 64Mi}
      volumeMounts:
        - {name: scripts, mountPath: /scripts, readOnly: true}
  containers:
    - name: {{ .role }}
      image: {{ include "plugnmeet-recorder.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      ports:
        - {name: admin, containerPort: 8089}
      lifecycle:
        preStop:
          exec: {command: [/bin/sh, /scripts/drain.sh]}
      startupProbe:
        httpGet: {path: /healthz, port: admin}
        periodSeconds: 5
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /healthz, port: admin}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 5
        timeoutSeconds: 5
      resources: {{- toYaml .own.resources | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /config, readOnly: true}
        - {name: admin, mountPath: /admin, readOnly: true}
        - {name: scripts, mountPath: /scripts, readOnly: true}
        - {name: recordings, mountPath: /recordings}
        - {name: state, mountPath: /state}
        - {name: shm, mountPath: /dev/shm}
  volumes:
    - name: config
      secret:
        secretName: {{ .root.Values.existingConfigSecret | default (printf "%s-config" (include "plugnmeet-recorder.name" .root)) }}
        items: [{key: {{ if .root.Values.existingConfigSecret }}config.yaml{{ else }}{{ .role }}.yaml{{ end }}, path: config.yaml}]
    - name: admin
      secret: {secretName: {{ include "plugnmeet-recorder.name" .root }}-admin}
    - name: scripts
      configMap: {name: {{ include "plugnmeet-recorder.name" .root }}-scripts}
    - name: recordings
      persistentVolumeClaim:
        claimName: {{ required "recordings.existingClaim: the volume that the plugNmeet server sees too" .root.Values.recordings.existingClaim }}
    - name: shm
      emptyDir: {medium: Memory, sizeLimit: {{ .root.Values.shmSize }}}
    {{- if not .claim }}
    - name: state
      emptyDir: {}
    {{- end }}
{{- end -}}

{{- define "plugnmeet-recorder.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
