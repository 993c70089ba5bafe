#!/usr/bin/env python3
"""A hook for any stage, long-lived (is_one_shot: false), with nothing but Python's standard library: appends a line to
the file $HOOK_JOURNAL for each event, with the time, the recording and its room, and the size of the file on the disk.

One line with a JSON object comes in for each event, one line with a JSON object goes out for it. Nothing else may go to
standard output; what goes to standard error is a line of the recorder's log.
"""

import datetime
import json
import os
import sys


def entry(request):
    """The line of the journal for a request."""
    size = None
    if "input_path" in request and "file_name" in request:
        try:
            size = os.path.getsize(os.path.join(request["input_path"], request["file_name"]))
        except OSError as error:
            print(f"the size is not known: {error}", file=sys.stderr)
    now = datetime.datetime.now(datetime.timezone.utc)
    keys = ("task", "recording_id", "room_id", "room_sid", "recorder_id", "file_name")
    return {"at": now.isoformat(timespec="seconds"), "bytes": size, **{key: request.get(key) for key in keys}}


def answer(request, journal):
    """What goes back: laid over the request, so only what is new, and whose answer it is."""
    line = json.dumps(entry(request))
    try:
        with open(journal, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        # An `error` fails the stage. A journal is not worth that: it is only said.
        print(f"cannot write the journal: {error}", file=sys.stderr)
    return {"recording_id": request.get("recording_id"), "journaled": True}


def main():
    journal = os.environ.get("HOOK_JOURNAL")
    if not journal:
        sys.exit("HOOK_JOURNAL is not set: the path of the file to append to")
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), journal)), flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
