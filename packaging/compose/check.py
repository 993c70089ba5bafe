"""The parts of packaging/check that look into the compose file and the Dockerfile: what each names, the other has."""

import json
import pathlib
import re
import sys

import jsonschema
import yaml

compose = yaml.safe_load(pathlib.Path(sys.argv[1]).read_text())
jsonschema.validate(compose, json.loads(pathlib.Path(sys.argv[3]).read_text()))
dockerfile = pathlib.Path(sys.argv[2]).read_text()
stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n((?:(?!FROM ).*\n?)*)", dockerfile, re.MULTILINE))


def volumes(stage):
    return set(re.findall(r'"(/[^"]+)"', "".join(re.findall(r"^VOLUME (.*)$", stages[stage], re.MULTILINE))))


for name, service in compose["services"].items():
    stage = service["build"]["target"]
    assert stage in stages, f"{name}: the Dockerfile has no stage {stage}"
    mounted = {volume.split(":")[1] for volume in service.get("volumes", [])} | {
        place.split(":")[0] for place in service.get("tmpfs", [])
    }
    assert service.get("read_only"), f"{name}: its root file system can be written"
    missing = volumes(stage) - mounted
    assert not missing, f"{name}: nothing is mounted at {missing}, which {stage} writes to"
    assert "ALL" in service["cap_drop"], f"{name} keeps capabilities"
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), f"{name}: {port} is published to everybody"
assert re.search(r"^USER 10001:10001$", stages["runtime"], re.MULTILINE), "the images run as root"
assert "HEALTHCHECK" in stages["recorder"], "the image has no health check"
assert stages["recorder"] == list(stages.values())[-1], "a build without --target is not the recorder's"
