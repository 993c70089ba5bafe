//! Codes of recordings: requests, meetings, records, storing. Pure.

use crate::codes::code::room;

room! {
    RECORDING: "Recordings: requests, meetings, records, storing";

    ENDS_HERE = 201;
        means: "The recording ends here, by a fault that another try would not mend.";
        cause: "The line names the cause.";
        remedy: "What was captured is kept and delivered. Remedy the cause before the next recording.";

    PAGE_LEFT = 202;
        means: "The page left the meeting, which goes on.";
        cause: "The meeting page showed an error: its connection was lost, the bot was removed, or its token was \
                refused.";
        remedy: "Nothing: the meeting is joined again. Where it repeats, look at the server's and LiveKit's logs for \
                 that minute.";

    CAPTURE_BROKE = 203;
        means: "The capture broke off.";
        cause: "Chrome, Xvfb, PulseAudio or ffmpeg died or hung. The line names which.";
        remedy: "Nothing: the meeting is joined again, and the parts are joined. Where it repeats, look at memory \
                 (`journalctl -k`) and at the load of the host.";

    OPENING_SLOW = 204;
        means: "Opening the meeting takes too long and is tried again.";
        cause: "The host is overloaded, or the meeting page loads slowly.";
        remedy: "Look at the load of the host, at max_limit, and at how fast the meeting page loads from here.";

    NOT_REJOINED_YET = 205;
        means: "The meeting cannot be joined again yet.";
        cause: "The server or its page does not answer, or refuses. The line names the cause.";
        remedy: "It is tried until recorder.rejoin_for has passed. Look at the server.";

    NOT_JOINED_YET = 206;
        means: "The meeting cannot be joined yet.";
        cause: "The meeting page does not load, shows an error, or Chrome does not start. The line names the cause.";
        remedy: "It is tried again. Open the meeting page from this host: `plugnmeet-recorder check` does.";

    NOT_REJOINED = 207;
        means: "The meeting was not joined again.";
        cause: "For recorder.rejoin_for, the server or its page did not let the recorder in. The line names the last \
                cause.";
        remedy: "What was captured is delivered. Look at the server; a longer recorder.rejoin_for waits longer.";

    UNRECORDABLE = 208;
        means: "The meeting cannot be recorded any more.";
        cause: "The page asks for something that only people can give, as a key for end-to-end encryption.";
        remedy: "Switch that feature off for meetings that are to be recorded.";

    CANNOT_RECORD = 209;
        means: "The meeting cannot be recorded: nothing was captured.";
        cause: "Chrome did not start, the page did not load, or the room was over. The line names the cause; a \
                screenshot may lie beside the log file.";
        remedy: "Remedy the cause, then start the recording again. `plugnmeet-recorder check` tries each step.";

    ENCODER_ENDED_BADLY = 210;
        means: "ffmpeg did not end well at the end of a part.";
        cause: "It was killed, failed to write, or had an option it does not know. Its own lines are above.";
        remedy: "Look at ffmpeg's lines, at the disk of temporary_dir, and at ffmpeg_settings. What is readable is \
                 delivered.";

    NOTHING_TO_DELIVER = 211;
        means: "Nothing can be delivered of this recording.";
        cause: "No part can be read, or no picture was captured. The line names the cause.";
        remedy: "Look at the parts in recorder.temporary_dir with ffprobe. The server was told that the recording \
                 failed.";

    GIVES_UP_STEP = 212;
        means: "A step of a recording does not end, and the recording goes on without it.";
        cause: "A program, thread or disk does not answer. The line names the step.";
        remedy: "Look for a hanging disk (`dmesg`) and for processes in state D (`ps`).";

    PARTS_NOT_READABLE_NOW = 213;
        means: "What was captured cannot be looked at now.";
        cause: "The disk of recorder.temporary_dir fails or does not answer.";
        remedy: "Bring the disk back; it is tried again.";

    START_REFUSED_INVALID = 230;
        means: "A START was refused: a field of it cannot be used.";
        cause: "An id, token or URL of the request is empty, too long, or has characters that are not allowed. The \
                line names the field.";
        remedy: "The versions of server and recorder may not fit, or somebody else writes to the channel. Look at the \
                 server's log.";

    NO_REQUEST = 231;
        means: "A message on the recorder channel is no request.";
        cause: "Something other than the plugNmeet server publishes on recorder_channel.";
        remedy: "Find out what else uses this NATS subject. The message is ignored.";

    ANSWER_NOT_SENT = 232;
        means: "A request could not be answered, so the server has told its user that it failed.";
        cause: "The connection to NATS was lost at this moment.";
        remedy: "Start the recording again. Where it repeats, look at NATS.";

    ID_IN_DOUBT = 233;
        means: "A START is left unanswered, as this node does not hold its recorder id.";
        cause: "Another recorder has the same recorder.id, or this node is just starting.";
        remedy: "Give each node an id of its own. The one that holds the id answers.";

    REQUESTS_ENDED = 234;
        means: "No more requests come in.";
        cause: "The NATS client of this program has ended by itself.";
        remedy: "Restart the recorder, and report the line with those above it.";

    STOP_NOT_ON_DISK = 235;
        means: "A STOP is obeyed, but that is not on disk yet.";
        cause: "The disk of recorder.state_dir is slow or does not answer.";
        remedy: "Look at that disk. A crash now would make the next start join the meeting again.";

    REFERRAL_UNANSWERED = 236;
        means: "A START was referred to another node, which has not said whether it takes it on.";
        cause: "That node hangs, its disk is slow, or its connection to NATS was lost at this moment.";
        remedy: "Look at the node that the line names. Start the recording again if it does not run there.";

    REFERRAL_LATE = 237;
        means: "A START that another node refers to this one came too late and is not taken on.";
        cause: "This node was hanging, or the clocks of the two nodes differ by seconds.";
        remedy: "Compare the clocks of the nodes (`timedatectl`), and look at this node's load.";

    REFUSED_IN_PROGRESS = 240;
        means: "A START was refused: this recording or broadcast of the room runs here already.";
        cause: "A second START came for the same room and kind.";
        remedy: "Nothing. Stop the first one to begin another.";

    REFUSED_FULL = 241;
        means: "This node is full and takes nothing on.";
        cause: "As many recordings and broadcasts run as recorder.max_limit allows.";
        remedy: "Add a node, or raise recorder.max_limit where the machine has room for more.";

    REFUSED_MAX_LOAD = 242;
        means: "This node has too little processor time for one more recording.";
        cause: "The running recordings and a new one would cost more than recorder.max_load allows.";
        remedy: "Add a node, or raise recorder.max_load where the machine has room for more.";

    REFUSED_OVERLOAD = 243;
        means: "This node is overloaded and takes nothing on.";
        cause: "The processors have been busy for a minute (recorder.cpu_overload_limit): by recordings, transcoding \
                or other programs.";
        remedy: "See what uses the processors (`top`). Lower recorder.max_limit, or transcode on another node. It \
                 takes work again by itself.";

    REFUSED_MEMORY = 244;
        means: "This node has too little memory for one more recording.";
        cause: "Recordings, transcoding or other programs use the memory of the machine or of the control group.";
        remedy: "See what uses the memory (`top`, `systemd-cgtop`). Lower recorder.max_limit, or add memory. It takes \
                 work again by itself.";

    REFUSED_SELF_TEST = 245;
        means: "This node cannot record and takes nothing on.";
        cause: "Its self-test failed; the line PNR-0109 says why.";
        remedy: "Remedy what the line PNR-0109 names.";

    REFUSED_STATE_DIR = 246;
        means: "This node cannot write down what it would take on.";
        cause: "The disk of recorder.state_dir is full, read-only, slow or does not answer. A START waits 0.8 s for \
                it.";
        remedy: "Look at that disk (`df`, `dmesg`, `iostat`). Put recorder.state_dir on a local disk.";

    REFUSED_MAIN_PATH = 247;
        means: "This node does not reach the storage of its recordings and takes nothing on.";
        cause: "main_path is not mounted, hangs, cannot be written, or is another file system than before; the line \
                PNR-0911 says which.";
        remedy: "Mount the right share, see PNR-0911. It takes work again by itself.";

    REFUSED_DISK_SPACE = 248;
        means: "A disk of this node is nearly full, so it takes nothing on.";
        cause: "The free space is below recorder.min_free_space.";
        remedy: "Free room on the directory that the line names. It takes work again by itself.";

    REFUSED_DRAINED = 249;
        means: "This node is drained by its operator and takes nothing on.";
        cause: "Somebody has asked for it by `POST /drain` at admin.listen, or on the node's page.";
        remedy: "`POST /undrain`, the node's page or a restart has it take work again.";

    REFUSED_DRAINING = 250;
        means: "This node is shutting down and takes nothing on.";
        cause: "It got SIGTERM; running recordings go on to their end, until recorder.drain_timeout.";
        remedy: "Nothing. It takes work after its next start.";

    REFUSED_NOT_UNIQUE = 251;
        means: "Another recorder has this node's id, so this one takes nothing on.";
        cause: "Two nodes have the same recorder.id.";
        remedy: "Give each node an id of its own, or stop one of them.";

    REFUSED_STARTING = 252;
        means: "This node is starting and takes nothing on yet.";
        cause: "It has not taken its recorder id yet: NATS or the server's bucket is not there, or another recorder \
                may still hold the id.";
        remedy: "Nothing, if it has just been started. Else the log says what it waits for.";

    REFUSED_UNFINISHED = 253;
        means: "A START was refused: an earlier recording with its id is not finished yet.";
        cause: "The file of the earlier one is still being stored, or waits for main_path.";
        remedy: "Look at `recordings list`. The server uses each id once, so look at why this one came again.";

    REFUSED_RAW_FILE = 254;
        means: "A START was refused: a raw file of its recording id is still there.";
        cause: "An earlier recording with this id was not delivered.";
        remedy: "Move away the file that the line names.";

    REFUSED_FAR_END = 255;
        means: "A broadcast was refused: this node sends nothing to that host.";
        cause: "rtmp.allowed_hosts does not name the host of the stream's URL.";
        remedy: "Correct the URL in the meeting, or add the host to rtmp.allowed_hosts.";

    REFUSED_FILE_NAME = 256;
        means: "A START was refused: its ids are no file name.";
        cause: "The recording id or room id is too long for a file, or has characters that a file name cannot have.";
        remedy: "Look at the server's log: its ids are not as plugNmeet makes them.";

    RECORDS_UNREAD = 260;
        means: "The record of a recording of an earlier run cannot be read now.";
        cause: "The disk of recorder.state_dir fails for the moment, or the file belongs to another user.";
        remedy: "Look at that disk and at the file's owner. It is tried again every 5 s, and the recording goes on \
                 then.";

    RECORD_UNUSABLE = 261;
        means: "A record of an earlier run cannot be used and is left as it is.";
        cause: "The file was changed by hand, or is of a newer version.";
        remedy: "Look at the file that the line names; start the version that wrote it, or move the file away.";

    EARLIER_BROADCAST_ENDED = 262;
        means: "An earlier run has left a broadcast behind; its end is told.";
        cause: "The recorder was killed or the host restarted. A broadcast is not taken up again.";
        remedy: "Start the broadcast again from the meeting. Find out why the recorder was killed.";

    EARLIER_RUN_RESUMES = 263;
        means: "An earlier run has left this recording unfinished; it goes on.";
        cause: "The recorder was killed, restarted, or the host was.";
        remedy: "Nothing: the parts are joined and delivered. Find out why the recorder ended.";

    RECORD_NOT_WRITTEN = 264;
        means: "The record of a recording is not on disk.";
        cause: "The disk of recorder.state_dir is full, read-only or does not answer.";
        remedy: "Look at that disk. The recording goes on, but a crash now would leave its files to you.";

    RECORD_NOT_REMOVED = 265;
        means: "The record of a recording that is over is not removed yet.";
        cause: "The disk of recorder.state_dir fails.";
        remedy: "Look at that disk. A start that finds the record has nothing left to do for it.";

    STILL_PRESENT = 270;
        means: "The server still counts the recorder's last page as present.";
        cause: "The page was lost some seconds ago, and the server has not noticed yet.";
        remedy: "Nothing: it joins all the same.";

    ROOM_STATE_UNKNOWN = 271;
        means: "Whether the room goes on is not known.";
        cause: "The server does not answer verifyToken, or not as plugNmeet does.";
        remedy: "Look at the server, or at the proxy before it. The meeting is joined all the same.";

    HOOKS_KEEP_RAW = 272;
        means: "The post_recording hooks failed, so no job is published yet.";
        cause: "A hook ended with an error, took too long or gave no usable answer. The line names it.";
        remedy: "Mend the hook; it is tried again. The raw file is kept meanwhile.";

    HOOK_NAME_UNUSABLE = 273;
        means: "A post_recording hook answered with a file_name that is none; the old one is kept.";
        cause: "The name is empty, has a slash, or is too long.";
        remedy: "Correct the hook's answer, see docs/hooks.md.";

    PART_KEPT = 274;
        means: "A part of the recording was not delivered and is kept.";
        cause: "It cannot be read or joined, or storing it failed for good.";
        remedy: "Look at it with ffprobe. Move it away if it is of use, else remove it.";

    REFERENCE_DIR_NOT_MADE = 275;
        means: "The room's directory for a reference transcoder cannot be made.";
        cause: "main_path is not writable or away, and recorder.copy_to_path.reference_sub_paths is set.";
        remedy: "Look at main_path. Without that directory a reference transcoder fails for this recording.";

    LEFTOVERS_NOT_WATCHED = 276;
        means: "Files that recordings leave beside their raw files are not looked after.";
        cause: "The directory cannot be listed: main_path is away or not readable.";
        remedy: "Look at main_path. Old summaries stay there until it answers.";

    SUMMARY_NOT_REMOVED = 277;
        means: "The summary beside a raw file that is gone cannot be removed.";
        cause: "main_path is read-only, or the file belongs to another user.";
        remedy: "Remove the file by hand, and see who may write in main_path.";

    END_NOT_WRITTEN = 278;
        means: "The end of a recording is not on disk.";
        cause: "The disk of recorder.state_dir fails or does not answer.";
        remedy: "Look at that disk. The recording's record is kept, and the next start tells the end again.";

    EARLIER_STORED = 279;
        means: "An earlier recording was not delivered, and now it can be.";
        cause: "The disk or share that was away is back.";
        remedy: "Nothing.";

    EARLIER_UNREADABLE = 280;
        means: "An earlier recording cannot be looked at.";
        cause: "The disk of recorder.temporary_dir fails.";
        remedy: "Look at that disk; the next start does it again.";

    EARLIER_UNDELIVERED = 281;
        means: "An earlier recording could not be delivered: its parts are kept.";
        cause: "Its parts cannot be read, or a crash came before they had content.";
        remedy: "Look at the parts in recorder.temporary_dir with ffprobe, then move or remove them.";

    JOB_NOT_ON_DISK = 282;
        means: "The job of a recording is not on disk, so its record is kept.";
        cause: "The disk of recorder.state_dir fails or does not answer.";
        remedy: "Look at that disk; the next start publishes the job.";

    NOT_STORED_YET = 283;
        means: "The raw file cannot be stored yet; its parts are kept.";
        cause: "main_path is away, full, read-only or hangs. The line names the error.";
        remedy: "Bring main_path back or free room; it is tried until it succeeds. `recordings list` shows what waits.";

    PARTS_NOT_REMOVED = 284;
        means: "The parts of a recording that are needed no more cannot be removed.";
        cause: "The disk of recorder.temporary_dir fails, or is read-only.";
        remedy: "Look at that disk; it is tried again.";

    SUMMARY_NOT_WRITTEN = 285;
        means: "The summary of a recording cannot be written.";
        cause: "The disk of recorder.state_dir or main_path is full or fails.";
        remedy: "Look at that disk. The recording itself is not concerned.";

    SUMMARIES_NOT_REMOVED = 286;
        means: "Summaries older than 30 days cannot be removed.";
        cause: "The disk of recorder.state_dir fails, or the files belong to another user.";
        remedy: "Look at `<state_dir>/summaries` and its owner.";

    END_NOT_CUT = 287;
        means: "What was recorded after the page had left the meeting cannot be cut off.";
        cause: "ffmpeg failed on this part. The line names the error.";
        remedy: "Nothing: the recording is delivered with some seconds more.";
}
