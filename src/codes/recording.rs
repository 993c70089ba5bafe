//! Codes of recordings: requests, meetings, records, storing. Pure.

use crate::codes::code::room;

room! {
    RECORDING: "Recordings: requests, meetings, records, storing";

    ENDS_HERE = 201;
        means: "The disk is full, so the recording ends here.";
        recordings: "What was captured is kept and delivered; the rest of the meeting is not recorded.";
        cause: "ffmpeg could not write: no space left on the disk of recorder.temporary_dir. The line names the \
                cause.";
        remedy: "Free room there at once (`df -h`). Then have the recording started again from the meeting.";

    PAGE_LEFT = 202;
        means: "The page left the meeting, which goes on.";
        recordings: "What was captured is kept. The seconds until the meeting is joined again are missing.";
        cause: "The meeting page showed an error: its connection was lost, the bot was removed, or its token was \
                refused. `page_says` has the page's words.";
        remedy: "Nothing: the meeting is joined again. Where it repeats, look at the logs of the plugNmeet server \
                 and of LiveKit for that minute.";

    CAPTURE_BROKE = 203;
        means: "The capture broke off.";
        recordings: "What was captured is kept, and the parts are joined. The seconds until the meeting is joined \
                     again are missing. A broadcast whose far end is given up ends.";
        cause: "Chrome, Xvfb, PulseAudio or ffmpeg died or hung; of a broadcast, its far end may have been given up \
                (PNR-0406). The line names which.";
        remedy: "Nothing for this recording: the meeting is joined again. Where it repeats, look at memory \
                 (`journalctl -k`) and at the load (`top`), and lower recorder.max_limit.";

    OPENING_SLOW = 204;
        means: "Opening the meeting takes too long and is tried again.";
        recordings: "What was captured before is kept; the meeting is not recorded until it is opened. It is tried \
                     again.";
        cause: "Chrome, Xvfb or the meeting page took more than 100 s: the host is overloaded, or the server is \
                slow.";
        remedy: "Look at the load (`top`) and lower recorder.max_limit; try how fast the meeting page loads from \
                 here (`curl -v`).";

    NOT_REJOINED_YET = 205;
        means: "The meeting cannot be joined again yet.";
        recordings: "What was captured is kept; the meeting is not recorded meanwhile.";
        cause: "The plugNmeet server or its page does not answer or refuses, or this host cannot open the page. The \
                line names the cause.";
        remedy: "Look at the plugNmeet server now: it is tried again until recorder.rejoin_for, 30 min by default, \
                 has passed since the last media.";

    NOT_JOINED_YET = 206;
        means: "The meeting cannot be joined yet.";
        recordings: "Nothing is recorded yet. After two minutes it is given up (PNR-0209).";
        cause: "The meeting page does not load or shows an error, or Chrome does not start. The line names the \
                cause.";
        remedy: "Mend now what the cause names. `plugnmeet-recorder check` asks for the meeting page and records a \
                 page of its own.";

    NOT_REJOINED = 207;
        means: "The meeting was not joined again, and the recording ends.";
        recordings: "What was captured is delivered; the rest of the meeting is not recorded.";
        cause: "For recorder.rejoin_for, the server or its page did not let the recorder in, or a stop came \
                meanwhile. The line names the last cause.";
        remedy: "Mend the cause, then have the recording started again. A longer recorder.rejoin_for tries for \
                 longer.";

    UNRECORDABLE = 208;
        means: "The meeting cannot be recorded any more.";
        recordings: "What was captured is delivered; the rest of the meeting cannot be recorded.";
        cause: "The page asks for something that only people can give, such as a key for end-to-end encryption. The \
                line has its words.";
        remedy: "Switch that feature off for meetings that are to be recorded, then have the recording started \
                 again.";

    CANNOT_RECORD = 209;
        means: "The meeting cannot be recorded.";
        recordings: "Lost: nothing was captured, and the users are told that the recording failed.";
        cause: "For two minutes Chrome did not start or the page did not load; or the room was over; or the page \
                asks for a key for end-to-end encryption. The line names the cause. A screenshot `*-recording.png` \
                is beside the log file, or in recorder.temporary_dir.";
        remedy: "Mend the cause, then have the recording started again at once: the meeting may still go on. \
                 `plugnmeet-recorder check` tries each step.";

    ENCODER_ENDED_BADLY = 210;
        means: "ffmpeg did not end well at the end of a part.";
        recordings: "What ffmpeg had written is delivered; the last seconds of this part may be missing.";
        cause: "It was killed, could not write, or had an option that it does not know. Its own lines (PNR-1007) are \
                above.";
        remedy: "Read them. See whether the disk of recorder.temporary_dir is full (`df -h`), and whether \
                 ffmpeg_settings was changed.";

    NOTHING_TO_DELIVER = 211;
        means: "Nothing can be delivered of this recording.";
        recordings: "Lost, unless a file that stays in recorder.temporary_dir is of use. Empty parts are removed.";
        cause: "No part can be read, or no picture was captured before the end. The line names the cause.";
        remedy: "If the meeting goes on, have the recording started again. Look at the files \
                 `<recording_id>_raw.part*.mkv` in recorder.temporary_dir with `ffprobe`; copy what is of use, then \
                 remove them.";

    GIVES_UP_STEP = 212;
        means: "A step of a recording does not end, and the recording goes on without it.";
        recordings: "What was captured stays in recorder.temporary_dir, and is stored or joined by the next step. \
                     Nothing is removed.";
        cause: "A program, thread or disk does not answer within its limit. The line names the step.";
        remedy: "Look for a disk that hangs: `dmesg -T`, and processes in state D (`ps axo pid,stat,wchan,comm`).";

    PARTS_NOT_READABLE_NOW = 213;
        means: "What was captured cannot be looked at now.";
        recordings: "The parts count as captured and are stored when the disk answers. Nothing is lost unless the \
                     disk is.";
        cause: "The disk of recorder.temporary_dir fails or does not answer. The line names the error.";
        remedy: "Bring that disk back (`dmesg -T`); it is tried again by itself.";

    START_REFUSED_INVALID = 230;
        means: "A START was refused: a field of it cannot be used.";
        recordings: "The recording was not started, and its users were told.";
        cause: "An id, token or URL of the request is empty, too long, or has characters that are not allowed. The \
                line names the field.";
        remedy: "Compare the versions of the plugNmeet server and of this recorder, and see that nobody else \
                 publishes on nats_info.recorder.recorder_channel.";

    NO_REQUEST = 231;
        means: "A message on the recorders' channel is no request and is ignored.";
        recordings: "Not concerned, unless it was meant as a START or STOP.";
        cause: "Something other than the plugNmeet server publishes on the NATS subject \
                nats_info.recorder.recorder_channel, or the server is of a version that this recorder does not know.";
        remedy: "`nats sub` on that subject shows what comes; stop who sends it, or give the recorders a subject of \
                 their own, here and in the server.";

    ANSWER_NOT_SENT = 232;
        means: "A request could not be answered, so the server has told its users that it failed.";
        recordings: "A recording that had begun is ended again, as nobody expects it.";
        cause: "The connection to NATS was lost at this moment.";
        remedy: "Have the recording started again. Where it repeats, look at the NATS server.";

    ID_IN_DOUBT = 233;
        means: "A START is left unanswered, as this node does not hold its recorder id.";
        recordings: "The recording runs on the node that holds the id, or its users are told after 3 s that it \
                     failed.";
        cause: "Another recorder has the same recorder.id, or this node has only just been started.";
        remedy: "Nothing within a minute of a start. Else give each node a recorder.id of its own; PNR-0803 names \
                 the other host.";

    REQUESTS_ENDED = 234;
        means: "No more requests come in.";
        recordings: "Running recordings are closed properly and delivered; no new one can be asked of this node.";
        cause: "The NATS client of this program has ended by itself.";
        remedy: "Restart the recorder, which systemd does by itself, and report the line with those above it.";

    STOP_NOT_ON_DISK = 235;
        means: "A STOP is obeyed, but that is not on disk yet.";
        recordings: "The recording ends as it should and is delivered. A crash now would make the next start join \
                     the meeting again.";
        cause: "The disk of recorder.state_dir is slow or does not answer.";
        remedy: "See whether that disk is full (`df -h`) or fails (`dmesg -T`). It is written as soon as the disk \
                 takes it.";

    REFERRAL_UNANSWERED = 236;
        means: "A START was given to another node, which has not said whether it takes it on.";
        recordings: "The recording may run on that node although its users were told that it failed.";
        cause: "That node hangs, its disk is slow, or its connection to NATS was lost at this moment. The line names \
                the node.";
        remedy: "`plugnmeet-recorder recordings list` on that node says whether it runs. If not, have the recording \
                 started again.";

    REFERRAL_LATE = 237;
        means: "A START that another node gives to this one came too late and is not taken on.";
        recordings: "The recording was not started here, and its users were told.";
        cause: "This node was hanging, or the clocks of the two nodes differ by seconds.";
        remedy: "Compare the clocks of both nodes (`timedatectl`), and look at this node's load (`top`). Have the \
                 recording started again.";

    REFUSED_IN_PROGRESS = 240;
        means: "A START was refused: this recording or broadcast of the room runs here already.";
        recordings: "The one that runs goes on.";
        cause: "A second START came for the same room and kind, as when somebody pressed the button twice.";
        remedy: "Nothing. To begin another, stop the first one in the meeting.";

    REFUSED_FULL = 241;
        means: "This node is full and takes nothing on.";
        recordings: "No new recording is started here. Running ones go on.";
        cause: "As many recordings and broadcasts run as recorder.max_limit allows, and no other node took it.";
        remedy: "Add a node. `plugnmeet-recorder size` measures, on an idle machine, how far recorder.max_limit may \
                 be raised.";

    REFUSED_MAX_LOAD = 242;
        means: "This node has too little processor time for one more recording.";
        recordings: "No new recording is started here. Running ones go on.";
        cause: "The running recordings and a new one would cost more than recorder.max_load allows.";
        remedy: "Add a node, or raise recorder.max_load where the processors have room for more (`top`).";

    REFUSED_OVERLOAD = 243;
        means: "This node is overloaded and takes nothing on.";
        recordings: "No new recording is started here. Running ones go on, and may lose frames.";
        cause: "The processors were busier than recorder.cpu_overload_limit for a minute: by recordings or by other \
                programs.";
        remedy: "See what uses the processors (`top`) and end it, or lower recorder.max_limit. The node takes work \
                 again when they are 10 percent below the limit. On a host that is always busy, set \
                 recorder.cpu_overload_limit to 0.";

    REFUSED_MEMORY = 244;
        means: "This node has too little memory for one more recording.";
        recordings: "No new recording is started here. Running ones go on, and the kernel may kill one if memory \
                     runs out.";
        cause: "Recordings, transcoding or other programs use the memory of the host or of its control group. The \
                line names the limit.";
        remedy: "See what uses the memory (`top`, `systemd-cgtop`) and end it, or raise `MemoryMax=` of the unit or \
                 the container's limit, or lower recorder.max_limit. The node takes work again by itself.";

    REFUSED_SELF_TEST = 245;
        means: "This node cannot record and takes nothing on.";
        recordings: "No new recording is started here. Running ones go on.";
        cause: "Its self-test has failed (PNR-0109 says why), or that of the start has not ended yet.";
        remedy: "Nothing within a minute of a start. Else mend what PNR-0109 names; `plugnmeet-recorder check` shows \
                 it too.";

    REFUSED_STATE_DIR = 246;
        means: "This node cannot write down what it would take on, so it takes nothing on.";
        recordings: "No new recording is started here. Running ones go on, and a crash now would lose what is not \
                     written of them.";
        cause: "The disk of recorder.state_dir is full, read-only, slow or does not answer. A START waits 0.8 s for \
                it.";
        remedy: "Look at that disk (`df -h`, `dmesg -T`, `iostat -x 1`). If it is a share or always slow, set \
                 recorder.state_dir to a local disk.";

    REFUSED_MAIN_PATH = 247;
        means: "This node does not reach main_path, where recordings are stored, and takes nothing on.";
        recordings: "No new recording is started here. Running ones go on in recorder.temporary_dir, and what has \
                     ended waits there.";
        cause: "recorder.copy_to_path.main_path is not mounted, hangs, cannot be written, or is another file system \
                than before; the line PNR-0911 says which.";
        remedy: "Mount the right share, as PNR-0911 says. The node takes work again within 5 s.";

    REFUSED_DISK_SPACE = 248;
        means: "A disk of this node is nearly full, so it takes nothing on.";
        recordings: "No new recording is started here. Running ones go on until the disk is full (PNR-0907).";
        cause: "The free space is below recorder.min_free_space. The line names the directory.";
        remedy: "Free room there (`df -h`, `du -xsh`): old recordings, or parts that were kept (PNR-0274). The node \
                 takes work again by itself.";

    REFUSED_DRAINED = 249;
        means: "This node is drained by its operator and takes nothing on.";
        recordings: "No new recording is started here. Running ones go on.";
        cause: "Somebody sent `POST /drain` to admin.listen, or pressed the button of the node's page.";
        remedy: "`curl -X POST -H 'Authorization: Bearer TOKEN' http://127.0.0.1:8089/undrain`, with the token of \
                 admin.token; or the button of the node's page; or a restart.";

    REFUSED_DRAINING = 250;
        means: "This node is shutting down and takes nothing on.";
        recordings: "No new recording is started here. Running ones go on to their end, or until \
                     recorder.drain_timeout.";
        cause: "It got SIGTERM, as by `systemctl stop`.";
        remedy: "Nothing. It takes work after its next start.";

    REFUSED_NOT_UNIQUE = 251;
        means: "Another recorder has this node's recorder.id, so this one takes nothing on.";
        recordings: "No new recording is started here. Running ones go on.";
        cause: "Two nodes have the same recorder.id. PNR-0803 names the host of the other one.";
        remedy: "Give one of them another recorder.id and restart it, or stop it.";

    REFUSED_STARTING = 252;
        means: "This node is starting and takes nothing on yet.";
        recordings: "No new recording is started here.";
        cause: "It has not got its recorder.id yet: NATS does not answer, the plugNmeet server has not made the \
                bucket, or another recorder held the id up to 10 s ago.";
        remedy: "Nothing, if it was started a minute ago. Else look for PNR-0820, PNR-0821, PNR-0822 or PNR-0807 in \
                 the log: it waits for what they name.";

    REFUSED_UNFINISHED = 253;
        means: "A START was refused: an earlier recording with its id is not finished yet.";
        recordings: "The earlier one is safe, and is stored and delivered. The new one was not started.";
        cause: "The file of the earlier one is being stored, or waits for main_path or for a hook.";
        remedy: "`plugnmeet-recorder recordings list` says what it waits for. The plugNmeet server uses each id \
                 once: see in its log why this one came again.";

    REFUSED_RAW_FILE = 254;
        means: "A START was refused: a raw file of its recording id is still there.";
        recordings: "The new recording was not started. The file may be the only copy of the earlier one: do not \
                     remove it.";
        cause: "An earlier recording with this id was stored, but its MP4 was not made.";
        remedy: "Move the file that the line names to another directory, look at it with `ffprobe`, and have the \
                 recording started again.";

    REFUSED_FAR_END = 255;
        means: "A broadcast was refused: this node may not broadcast to that host.";
        recordings: "The broadcast was not started.";
        cause: "rtmp.allowed_hosts does not name the host of the broadcast's URL.";
        remedy: "Correct the URL in the meeting, or add the host to rtmp.allowed_hosts and restart the recorder.";

    REFUSED_FILE_NAME = 256;
        means: "A START was refused: its ids cannot be a file name.";
        recordings: "The recording was not started, and its users were told.";
        cause: "The recording id or room id is too long for a file, or has characters that a file name cannot have.";
        remedy: "Look at the plugNmeet server's log: its ids are not as plugNmeet makes them.";

    RECORDS_UNREAD = 260;
        means: "The record of a recording of an earlier run cannot be read now.";
        recordings: "The recording waits: its meeting is not joined again and its parts are not delivered before the \
                     record is read. Nothing is removed.";
        cause: "The disk of recorder.state_dir fails for the moment, or the file belongs to another user. The line \
                names file and error.";
        remedy: "Mend that disk (`dmesg -T`), or give the file to the recorder's user (`chown`). It is tried again \
                 every 5 s.";

    RECORD_UNUSABLE = 261;
        means: "A record of an earlier run cannot be used and is left as it is.";
        recordings: "The recording is not delivered by itself: its parts are in recorder.temporary_dir.";
        cause: "The file was changed by hand, or is of a newer version. The line names it.";
        remedy: "Start the version that wrote it. If there is none, copy the parts `*_raw.part*.mkv` away, then move \
                 the record that the line names out of recorder.state_dir.";

    EARLIER_BROADCAST_ENDED = 262;
        means: "An earlier run has left a broadcast behind; its end is told.";
        recordings: "The broadcast has ended for its viewers; the server is told.";
        cause: "The recorder was killed, or the host restarted. A broadcast is not taken up again.";
        remedy: "Have the broadcast started again from the meeting. `journalctl -k` may say what killed the \
                 recorder.";

    EARLIER_RUN_RESUMES = 263;
        means: "An earlier run has left this recording unfinished; it goes on.";
        recordings: "What was captured is safe: the meeting is joined again if it goes on, and the parts are joined \
                     and delivered.";
        cause: "The recorder was killed or restarted, or the host was.";
        remedy: "Nothing. If nobody restarted it, `journalctl -k` may say what killed it.";

    RECORD_NOT_WRITTEN = 264;
        means: "The record of a recording is not on disk.";
        recordings: "The recording goes on. A crash now may leave its newest parts in recorder.temporary_dir \
                     undelivered.";
        cause: "The disk of recorder.state_dir is full, read-only or does not answer.";
        remedy: "Free room there or bring it back now (`df -h`, `dmesg -T`). The record is written as soon as the \
                 disk takes it.";

    RECORD_NOT_REMOVED = 265;
        means: "The record of a recording that is over is not removed yet.";
        recordings: "Safe and handed over.";
        cause: "The disk of recorder.state_dir fails or is read-only.";
        remedy: "Look at that disk (`dmesg -T`). It is removed as soon as the disk allows it, or by the next start.";

    STILL_PRESENT = 270;
        means: "The server still counts the recorder's last page as present.";
        recordings: "What was captured is kept, and the meeting is joined again now.";
        cause: "The page was lost some seconds ago, and the server has not noticed yet.";
        remedy: "Nothing. Where it repeats for the same room, see that no second recorder records it.";

    ROOM_STATE_UNKNOWN = 271;
        means: "Whether the room goes on is not known.";
        recordings: "What was captured is kept, and the meeting is joined all the same.";
        cause: "The plugNmeet server does not answer at `/api/verifyToken`, or not as plugNmeet does. The line names \
                the answer.";
        remedy: "Look at the plugNmeet server, and at the proxy before it, at the address in plugNmeet_info.host.";

    HOOKS_KEEP_RAW = 272;
        means: "The post_recording hooks failed, so no job is published yet.";
        recordings: "Safe: its raw file is where the line says. There is no MP4 before the hooks succeed.";
        cause: "A hook under `hooks.post_recording` ended with an error, took too long or gave no usable answer. The \
                line names it.";
        remedy: "Mend that script or URL; `plugnmeet-recorder hooks test post_recording` tries it. The hooks are run \
                 again after 5 min at the latest.";

    HOOK_NAME_UNUSABLE = 273;
        means: "A post_recording hook answered with an unusable file_name; the old name is kept.";
        recordings: "Safe. If the hook has renamed the file, the transcoder does not find it.";
        cause: "The name is empty, has a slash, or is too long. The line quotes why.";
        remedy: "Correct the hook's answer (docs/hooks.md). If it has renamed the raw file, rename it back.";

    PART_KEPT = 274;
        means: "A part of the recording was not delivered and is kept.";
        recordings: "This piece is not in the delivered recording, or nothing of the recording could be delivered. \
                     The file is kept.";
        cause: "It cannot be read or joined to the others. The line names the file and its size.";
        remedy: "Look at the file with `ffprobe`. Copy it away if it is of use, then remove it.";

    REFERENCE_DIR_NOT_MADE = 275;
        means: "The room's directory for a reference transcoder cannot be made.";
        recordings: "The raw file is safe, but a reference transcoder that takes the job fails without this \
                     directory.";
        cause: "main_path is away or not writable. recorder.copy_to_path.reference_sub_paths is set.";
        remedy: "Mount main_path, or make the directory that the line names, for the transcoder's user.";

    LEFTOVERS_NOT_WATCHED = 276;
        means: "Old summaries and empty directories beside raw files are not cleaned up.";
        recordings: "Not concerned.";
        cause: "A directory under main_path cannot be listed, or does not answer. The line names the error.";
        remedy: "See that main_path is mounted and readable for the recorder's user. It is tried again by itself.";

    LEFTOVER_NOT_REMOVED = 277;
        means: "The summary or the early MP4 beside a raw file that is gone cannot be removed.";
        recordings: "Not concerned.";
        cause: "main_path is read-only, or the file belongs to another user. The line names it.";
        remedy: "Remove the file by hand, and see that the recorder's user may write in main_path.";

    END_NOT_WRITTEN = 278;
        means: "The end of a recording is not on disk.";
        recordings: "Safe: its record and its parts are kept until the end is on disk. The job, and so the MP4, \
                     waits for that.";
        cause: "The disk of recorder.state_dir is full, fails or does not answer.";
        remedy: "Free room there or bring it back (`df -h`, `dmesg -T`). It is tried again, also by the next start.";

    EARLIER_STORED = 279;
        means: "An earlier recording was not delivered, and now it can be.";
        recordings: "The recording is being delivered now.";
        cause: "The disk or share that was away is back.";
        remedy: "Nothing.";

    EARLIER_UNREADABLE = 280;
        means: "An earlier recording cannot be looked at.";
        recordings: "The recording is neither lost nor delivered; its parts are kept.";
        cause: "The disk of recorder.temporary_dir fails or does not answer. The line names the error.";
        remedy: "Bring that disk back (`dmesg -T`), then restart the recorder: the start looks again.";

    EARLIER_UNDELIVERED = 281;
        means: "An earlier recording could not be delivered: its parts are kept.";
        recordings: "The recording was not delivered. Its parts are kept in recorder.temporary_dir, and each start \
                     tries again.";
        cause: "Its parts cannot be read, or the crash came before anything was captured. The line names the files.";
        remedy: "Look at the files with `ffprobe`; a copy of their disk may be readable. Move them away or remove \
                 them: the next start then forgets the recording.";

    JOB_NOT_ON_DISK = 282;
        means: "The job of a recording is not on disk, so its record is kept.";
        recordings: "The raw file is safe in main_path. Its MP4 is made when the job is published, at the next start \
                     at the latest.";
        cause: "The disk of recorder.state_dir is full, fails or does not answer.";
        remedy: "Free room there or bring it back (`df -h`, `dmesg -T`), then restart the recorder.";

    NOT_STORED_YET = 283;
        means: "The raw file cannot be stored yet; its parts are kept.";
        recordings: "Safe in recorder.temporary_dir. There is no MP4 before it is stored.";
        cause: "main_path is away, full, read-only or hangs, or another file has the name. The line names file and \
                error.";
        remedy: "Mount main_path, free room in it, or move the other file away. It is tried after 5 min at the \
                 latest, and at once when main_path is back; `plugnmeet-recorder recordings list` shows what waits.";

    PARTS_NOT_REMOVED = 284;
        means: "The parts of a recording that are needed no more cannot be removed.";
        recordings: "Safe; the parts only take room.";
        cause: "The disk of recorder.temporary_dir fails, or is read-only.";
        remedy: "Look at that disk (`dmesg -T`); it is tried again, after 5 min at the latest.";

    SUMMARY_NOT_WRITTEN = 285;
        means: "The summary of a recording cannot be written.";
        recordings: "Safe; its summary is missing on the node's page and for scripts.";
        cause: "The disk of recorder.state_dir or of main_path is full or fails. The line names the file.";
        remedy: "Free room there or mend it (`df -h`, `dmesg -T`).";

    SUMMARIES_NOT_REMOVED = 286;
        means: "Summaries older than 30 days cannot be removed.";
        recordings: "Not concerned.";
        cause: "The disk of recorder.state_dir fails, or the files belong to another user.";
        remedy: "Look at `summaries` in recorder.state_dir, its disk and its owner.";

    END_NOT_CUT = 287;
        means: "What was recorded after the page had left the meeting cannot be cut off.";
        recordings: "The recording is whole, and is delivered with some seconds of another page at its end.";
        cause: "ffmpeg failed on this part. The line names part and error.";
        remedy: "Nothing. Cut the end off by hand if nobody should see it.";
}
