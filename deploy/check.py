"""The parts of deploy/check that look at contents: see there. Every check prints one line, or ends the run."""

import http.server
import json
import logging
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import kubernetes_validate
import moto.server
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "kubernetes/plugnmeet-recorder"
TOOLS = pathlib.Path(os.environ["TOOLS"])
KUBERNETES = "1.34"
LIMIT = 60
logging.getLogger("werkzeug").setLevel(logging.ERROR)


def metrics():
    """No rule, panel or script names a metric that is not in the list."""
    known = set()
    for line in (DEPLOY / "prometheus/metrics.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, kind = line.split()
            known |= {name + end for end in (["_bucket", "_sum", "_count"] if kind == "histogram" else [""])}
    for path in [*DEPLOY.glob("prometheus/*.*"), *CHART.rglob("*"), *DEPLOY.glob("aws/*")]:
        if path.is_file() and path.name != "metrics.txt":
            unknown = set(re.findall(r"plugnmeet_recorder_[a-z0-9_]+", path.read_text())) - known
            assert not unknown, f"{path}: {unknown} are not in metrics.txt"
    panels = json.loads((DEPLOY / "prometheus/dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 15
    taken = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(taken)) == len(taken) and all(panel["targets"] for panel in panels)
    print(f"{len(known)} names of metrics, {len(panels)} panels")


def template(*values):
    command = [TOOLS / "helm", "template", "pnm", CHART, "--namespace", "meetings", "--kube-version", KUBERNETES + ".0"]
    done = subprocess.run([*command, *values], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def chart():
    all_on = ["--values", DEPLOY / "kubernetes/check-values.yaml"]
    plain = ["--set", "recordings.existingClaim=r,existingConfigSecret=c,recorder.storage.size=,transcoder.enabled=false"]
    counts = []
    for values in (all_on, plain):
        subprocess.run([TOOLS / "helm", "lint", "--quiet", "--kube-version", KUBERNETES + ".0", CHART, *values], check=True)
        documents = template(*values)
        for document in documents:
            # The schemas have no custom resources.
            if not document["apiVersion"].startswith("keda.sh/"):
                kubernetes_validate.validate(document, KUBERNETES, strict=True)
        counts.append(len(documents))
    refused = subprocess.run([TOOLS / "helm", "template", "pnm", CHART, "--kube-version", "1.34.0"], capture_output=True, text=True)
    assert refused.returncode != 0 and "recordings.existingClaim" in refused.stderr, refused

    found = {(document["kind"], document["metadata"]["name"]): document for document in template(*all_on)}
    recorder, transcoder = found["StatefulSet", "pnm"]["spec"], found["Deployment", "pnm-transcoder"]["spec"]
    for role in (recorder, transcoder):
        pod = role["template"]["spec"]
        container = pod["containers"][0]
        assert pod["terminationGracePeriodSeconds"] == 14400
        assert container["lifecycle"]["preStop"]["exec"]["command"] == ["/bin/sh", "/scripts/drain.sh"]
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
        assert role["template"]["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        there = {volume["name"] for volume in pod["volumes"]}
        there |= {claim["metadata"]["name"] for claim in role.get("volumeClaimTemplates", [])}
        assert mounted <= there and pod["initContainers"][0]["restartPolicy"] == "Always"
        # KEDA says how many.
        assert "replicas" not in role
    [trigger] = found["ScaledObject", "pnm"]["spec"]["triggers"]
    assert trigger["metadata"]["query"] == 'sum(plugnmeet_recorder_slots_used{namespace="meetings"}) + 2', trigger
    [trigger] = found["ScaledObject", "pnm-transcoder"]["spec"]["triggers"]
    assert (trigger["type"], trigger["metadata"]["stream"]) == ("nats-jetstream", "pnm-RecorderTranscoderJobs")
    assert trigger["metadata"]["consumer"] == "transcoderWorker"
    print(f"{sum(counts)} documents of the chart are valid for Kubernetes {KUBERNETES}")

    program = pathlib.Path(os.environ.get("RECORDER", ROOT / "target/debug/plugnmeet-recorder"))
    for name, text in found["Secret", "pnm-config"]["stringData"].items():
        assert yaml.safe_load(text)["recorder"]["id"] == "${HOSTNAME}"
        assert yaml.safe_load(text)["recorder"]["drain_timeout"] == "14280s"
        if program.exists():
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                file.write(text.replace("/state/", tempfile.gettempdir() + "/deploy-check-none/"))
                file.flush()
                command = [program, "--config", file.name, "recordings", "list"]
                done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HOSTNAME": "pnm-0"})
                assert done.returncode != 2, f"{name}: {done.stderr}"
    print("the chart's configurations load" if program.exists() else "no built recorder, so the chart's configurations are not loaded")


class StandIn:
    """A recorder's admin listener, the instance's metadata, the API of Kubernetes, and the way to moto, all in one."""

    def __init__(self, aws=""):
        self.requests, self.protect, self.metrics, self.lifecycle = [], 200, "", "InService"
        self.instance, self.aws, self.changed = "", aws, threading.Condition()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, said = owner.answer(self.command, self.path, self.headers, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_POST = do_PUT = do_PATCH = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, method, path, headers, body):
        with self.changed:
            self.requests.append((method, path, dict(headers), body.decode(errors="replace")))
            self.changed.notify_all()
        meta = "/latest/meta-data/"
        known = {
            "/metrics": self.metrics,
            "/latest/api/token": "imds",
            meta + "instance-id": self.instance,
            meta + "placement/region": "eu-central-1",
            meta + "autoscaling/target-lifecycle-state": self.lifecycle,
        }
        if path == "/protect":
            return self.protect, b""
        if path in known:
            if path.startswith(meta) and headers["X-aws-ec2-metadata-token"] != "imds":
                return 401, b""
            return 200, known[path].encode()
        if path == "/drain":
            return (200 if headers["Authorization"] == "Bearer the-token" else 401), b""
        if method == "PATCH":
            return (200 if headers["Authorization"] == "Bearer account-token" else 403), b"{}"
        action = urllib.parse.parse_qs(body.decode(errors="replace")).get("Action", [""])[0]
        if action in ("RecordLifecycleActionHeartbeat", "CompleteLifecycleAction"):
            # moto does not know them.
            return 200, f"<{action}Response><{action}Result/><ResponseMetadata/></{action}Response>".encode()
        forwarded = {name: value for name, value in headers.items() if name.lower() not in ("host", "content-length")}
        request = urllib.request.Request(self.aws + path, body, forwarded, method=method)
        try:
            with urllib.request.urlopen(request, timeout=LIMIT) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def wait_for(self, what):
        """The first request for which this is true."""
        end = time.monotonic() + LIMIT
        with self.changed:
            while not (found := next((request for request in self.requests if what(*request)), None)):
                assert self.changed.wait(end - time.monotonic()), f"never, in {[r[:2] for r in self.requests]}"
            return found

    def actions(self):
        bodies = (urllib.parse.parse_qs(request[3]) for request in self.requests)
        return [body["Action"][0] for body in bodies if "Action" in body]


def run(directory, script, **env):
    env = {**os.environ, "PAUSE": "0.05", "TOKEN_FILE": str(directory / "token"), **env}
    return subprocess.Popen(script, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process):
    said, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, said
    return said


def kubernetes_scripts(directory):
    (directory / "token").write_text("the-token\n")
    drain = ["sh", CHART / "scripts/drain.sh"]
    node = StandIn()
    process = run(directory, drain, ADMIN=node.url)
    node.wait_for(lambda method, path, *_: (method, path) == ("POST", "/drain"))
    node.wait_for(lambda method, path, *_: path == "/protect" and len(node.requests) > 5)
    assert process.poll() is None, "it does not wait for what runs"
    node.protect = 404
    ended(process)
    # A recorder that is not there any more is not waited for.
    ended(run(directory, drain, ADMIN="http://127.0.0.1:9"))

    account = directory / "account"
    account.mkdir()
    (account / "token").write_text("account-token")
    (account / "ca.crt").write_text("")
    pod = StandIn()
    command = ["sh", CHART / "scripts/protection.sh"]
    env = {"API": pod.url, "ACCOUNT": str(account), "NAMESPACE": "meetings", "POD": "pnm-0"}
    process = run(directory, command, ADMIN=pod.url, **env)
    annotations = lambda request: json.loads(request[3])["metadata"]["annotations"]  # noqa: E731
    patch = lambda safe: lambda method, path, _, body: method == "PATCH" and f'evict":"{safe}"' in body  # noqa: E731
    busy = pod.wait_for(patch("false"))
    assert busy[1] == "/api/v1/namespaces/meetings/pods/pnm-0"
    assert busy[2]["Content-Type"] == "application/merge-patch+json"
    assert annotations(busy)["controller.kubernetes.io/pod-deletion-cost"] == "1000"
    pod.protect = 404
    assert annotations(pod.wait_for(patch("true")))["controller.kubernetes.io/pod-deletion-cost"] == "0"
    # An answer that is no clear no protects.
    pod.requests.clear()
    pod.protect = 503
    pod.wait_for(patch("false"))
    process.terminate()
    ended(process)
    told = [request for request in pod.requests if request[0] == "PATCH"]
    assert len(told) == 1, "only changes are told"
    print("the chart's scripts drain, and keep a busy pod from being evicted")


def aws_scripts(directory):
    server = moto.server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    node = StandIn("http://{}:{}".format(*server.get_host_and_port()))
    programs = directory / "programs"
    programs.mkdir()
    (programs / "systemctl").write_text(f'#!/bin/sh\necho "$@" >>{directory}/systemctl\n')
    (programs / "systemctl").chmod(0o755)
    env = {
        "PATH": f"{programs}:{TOOLS / 'deploy-python/bin'}:{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": node.url, "AWS_DEFAULT_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true", "IMDS": node.url, "ADMIN": node.url,
    }  # fmt: skip
    subprocess_env = {**os.environ, **env}

    def aws(*arguments):
        done = subprocess.run(["aws", *arguments, "--output", "json"], env=subprocess_env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")

    image = aws("ec2", "describe-images", "--owners", "amazon", "--max-items", "1")["Images"][0]["ImageId"]
    aws("autoscaling", "create-launch-configuration", "--launch-configuration-name", "l", "--image-id", image, "--instance-type", "c5.xlarge")  # noqa: E501
    aws("autoscaling", "create-auto-scaling-group", "--auto-scaling-group-name", "g", "--launch-configuration-name", "l", "--min-size", "1", "--max-size", "5", "--availability-zones", "eu-central-1a")  # noqa: E501

    def instance():
        return aws("autoscaling", "describe-auto-scaling-instances")["AutoScalingInstances"][0]

    node.instance = instance()["InstanceId"]
    ended(run(directory, [DEPLOY / "aws/setup-group", "g", "3"], **env))
    [hook] = aws("autoscaling", "describe-lifecycle-hooks", "--auto-scaling-group-name", "g")["LifecycleHooks"]
    assert (hook["LifecycleTransition"], hook["HeartbeatTimeout"]) == ("autoscaling:EC2_INSTANCE_TERMINATING", 900)
    policies = aws("autoscaling", "describe-policies")["ScalingPolicies"]
    arns = {policy["PolicyName"]: policy["PolicyARN"] for policy in policies}
    alarms = {alarm["AlarmName"]: alarm for alarm in aws("cloudwatch", "describe-alarms")["MetricAlarms"]}
    up = alarms["g-few-free-recorders"]
    assert (up["Threshold"], up["TreatMissingData"], up["AlarmActions"]) == (3, "breaching", [arns["recorder-up"]])
    assert alarms["g-many-free-recorders"]["AlarmActions"] == [arns["recorder-down"]]

    report = DEPLOY / "aws/report"
    values = []
    for protect, ready, free, protected in ((200, 1, 2, True), (404, 1, 3, False), (503, 0, 3, True)):
        node.protect = protect
        node.metrics = f"plugnmeet_recorder_ready {ready}\nplugnmeet_recorder_slots_free {free}\n# EOF\n"
        ended(run(directory, [report], **env))
        assert instance()["ProtectedFromScaleIn"] is protected, (protect, instance())
        values.append(1 if ready and free else 0)
    ended(run(directory, [report], **{**env, "ADMIN": "http://127.0.0.1:9"}))
    assert instance()["ProtectedFromScaleIn"] is True
    dimension = "Name=AutoScalingGroupName,Value=g"
    window = ["--start-time", "2020-01-01T00:00:00Z", "--end-time", "2040-01-01T00:00:00Z", "--period", "86400"]
    points = aws("cloudwatch", "get-metric-statistics", "--namespace", "PlugNmeet", "--metric-name", "FreeNodes", "--dimensions", dimension, "--statistics", "Sum", "SampleCount", *window)["Datapoints"]  # noqa: E501
    assert sum(point["Sum"] for point in points) == sum(values) == 2, points
    assert sum(point["SampleCount"] for point in points) == 4, points

    node.protect = 200
    process = run(directory, [DEPLOY / "aws/drain"], **env)
    node.wait_for(lambda method, path, *_: path.endswith("target-lifecycle-state"))
    assert not any(request[1] == "/drain" for request in node.requests), "nobody has asked for it"
    node.lifecycle = "Terminated"
    node.wait_for(lambda *request: "Action=RecordLifecycleActionHeartbeat" in request[3])
    assert process.poll() is None and "CompleteLifecycleAction" not in node.actions(), "it does not wait for what runs"
    node.protect = 404
    ended(process)
    [drain] = [request for request in node.requests if request[1] == "/drain"]
    assert drain[2]["Authorization"] == "Bearer the-token"
    complete = urllib.parse.parse_qs(next(request[3] for request in node.requests if "Action=Complete" in request[3]))
    assert complete["InstanceId"] == [node.instance] and complete["LifecycleActionResult"] == ["CONTINUE"]
    assert (directory / "systemctl").read_text() == "stop plugnmeet-recorder.service\n"

    aws("ssm", "put-parameter", "--name", "/plugnmeet-recorder/config.yaml", "--type", "SecureString", "--value", "recorder: {id: '${NODE_ID}'}")  # noqa: E501
    root = directory / "root"
    ended(run(directory, [DEPLOY / "aws/user-data"], ROOT=str(root), **env))
    etc = root / "etc/plugnmeet-recorder"
    assert (etc / "config.yaml").read_text() == "recorder: {id: '${NODE_ID}'}\n"
    assert (etc / "node.env").read_text() == f"NODE_ID={node.instance}\nAWS_DEFAULT_REGION=eu-central-1\n"
    assert len((etc / "token").read_text()) >= 32 and (etc / "token").stat().st_mode & 0o007 == 0
    assert "enable --now plugnmeet-recorder.service recorder-drain.service" in (directory / "systemctl").read_text()
    server.stop()
    for script in ("user-data", "report", "drain", "setup-group"):
        assert len((DEPLOY / "aws" / script).read_text().splitlines()) <= 60
    print("the scripts for AWS do what they say, against moto")


with tempfile.TemporaryDirectory() as temporary:
    metrics()
    chart()
    kubernetes_scripts(pathlib.Path(temporary))
    aws_scripts(pathlib.Path(temporary))
