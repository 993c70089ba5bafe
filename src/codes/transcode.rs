//! Codes of transcoding: jobs, results, claims. Pure.

use crate::codes::code::room;

room! {
    TRANSCODE: "Transcoding: jobs, results, claims";

    PARTS_ENCODED_ANEW = 501;
        means: "The parts could not be joined as they are and are encoded anew.";
        cause: "Their sizes or codecs differ, as after a change of the configuration between two parts.";
        remedy: "Nothing: it takes longer.";

    PART_LEFT_OUT = 502;
        means: "A part cannot be played and is left out.";
        cause: "The file is damaged: the disk or the power failed while it was written.";
        remedy: "Look at the file that the line names with ffprobe.";

    RAW_NOT_DECODABLE = 503;
        means: "The result cannot be decoded everywhere, and neither can its raw file.";
        cause: "The raw file is damaged in places.";
        remedy: "Look at both with ffprobe. The result is delivered as it is.";

    MEASURED_AGAIN = 504;
        means: "A file was not measured to its end and is measured again.";
        cause: "The disk is slow or ffprobe was ended.";
        remedy: "Look at the disk of the file where it repeats.";

    NOT_ACKNOWLEDGED_YET = 505;
        means: "A job is done, but the queue does not confirm it.";
        cause: "NATS does not answer, or its stream has no leader.";
        remedy: "Look at NATS; it is tried until it is confirmed.";

    NOT_ACKNOWLEDGED = 506;
        means: "A job is done and not acknowledged at the program's end.";
        cause: "NATS was away while the program ended.";
        remedy: "Nothing: the next start acknowledges it.";

    CLAIM_NOT_MARKED = 507;
        means: "A claim does not say yet that the server was told of the result.";
        cause: "main_path is away or not writable.";
        remedy: "Look at main_path. At worst the server is told twice.";

    CLAIM_TAKEN_OVER = 508;
        means: "Another node has left its job unfinished, and this one takes it on.";
        cause: "That node died, or its share of main_path was away.";
        remedy: "Look at the node that the line names.";

    QUEUE_OVERDUE = 509;
        means: "A job has waited for longer than transcoder.max_wait and is taken though the processors are busy.";
        cause: "There is more to transcode than this fleet does in time.";
        remedy: "Add a transcoding node, or raise transcoder.max_wait.";

    OUTSIDE_FAULT = 510;
        means: "Something that this node does not have in hand keeps a recording from being transcoded.";
        cause: "A disk, share or hook fails. The line names the cause.";
        remedy: "Remedy the cause. The raw file is kept, and it is tried again for as long as it takes.";

    ATTEMPT_FAILED = 511;
        means: "An attempt at a transcoding job failed.";
        cause: "The line names the cause: ffmpeg, the raw file, a disk or a hook.";
        remedy: "Another attempt follows. Look at the cause before the last one.";

    JOB_GIVEN_UP = 512;
        means: "Transcoding failed for the last time; the raw file is kept.";
        cause: "The line names the cause; ffmpeg's own lines are above.";
        remedy: "Remedy the cause, then `plugnmeet-recorder jobs retry RECORDING_ID`.";

    RESULT_ELSEWHERE = 513;
        means: "The result is another node's, and is looked for again.";
        cause: "Two nodes had the same job.";
        remedy: "Nothing.";

    FETCHED_NOT_REMOVED = 514;
        means: "What a pre_transcoding hook has fetched is not removed.";
        cause: "The disk fails, or the files belong to another user.";
        remedy: "Remove the directory that the line names.";

    CLAIM_LOST = 515;
        means: "Another node has taken a result on; the server is told all the same.";
        cause: "This node was away for longer than 10 min with the job in hand.";
        remedy: "Nothing: at worst the server is told twice.";

    CLAIM_NOT_MADE = 516;
        means: "A result cannot be claimed; the server is told all the same.";
        cause: "main_path is not writable for a moment.";
        remedy: "Look at main_path. At worst the server is told twice.";

    CLAIM_NOT_REMOVED = 517;
        means: "The claim of a result cannot be removed.";
        cause: "main_path is away or not writable.";
        remedy: "Nothing: it is void after 10 min.";

    POST_HOOKS_FAILED = 518;
        means: "The post_transcoding hooks failed for the last time; the MP4 stays where it is.";
        cause: "A hook ended with an error, took too long or gave no usable answer.";
        remedy: "Mend the hook, then move the MP4 by hand if it belongs elsewhere.";

    JOB_FILES_NOT_REMOVED = 519;
        means: "A job is done, but its raw file and claim cannot be removed.";
        cause: "main_path is read-only, away or hangs.";
        remedy: "Look at main_path; it is tried again, also by the next start.";

    JOB_UNUSABLE = 520;
        means: "A job from the queue cannot be used and is dropped; its bytes are kept in a file.";
        cause: "It is of another version or program, or damaged.";
        remedy: "Look at the file that the line names, and at what publishes into this stream.";

    JOB_UNUSABLE_LOST = 521;
        means: "A job from the queue cannot be used, nor kept, and is dropped.";
        cause: "It is of another version or program, and recorder.state_dir cannot be written.";
        remedy: "Look at the disk of state_dir. The line has the beginning of the job.";

    JOB_RECORD_NOT_WRITTEN = 522;
        means: "The record of a job is not on disk.";
        cause: "The disk of recorder.state_dir is full, read-only or does not answer.";
        remedy: "Look at that disk. A crash now would repeat steps of the job.";

    JOB_RECORD_NOT_REMOVED = 523;
        means: "The record of a job is not removed yet.";
        cause: "The disk of recorder.state_dir fails.";
        remedy: "Look at that disk. A start that finds it looks at the job again.";

    JOB_RECORD_UNREAD = 524;
        means: "The record of a job of an earlier run cannot be read.";
        cause: "The disk of recorder.state_dir fails, or the file belongs to another user.";
        remedy: "Look at that disk and at the file's owner; it is tried again.";

    LAST_RESORT = 525;
        means: "The MP4 could not be made for the last time, so other ways are tried.";
        cause: "ffmpeg fails on the raw file. The line names the cause.";
        remedy: "The raw file is kept. Compare the result with it; ffmpeg_settings.post_recording may be the cause.";

    RAW_KEPT = 526;
        means: "The raw file is kept, as the MP4 may not hold all of it.";
        cause: "The MP4 is shorter than the raw file, or lacks a track.";
        remedy: "Compare both, then remove the raw file by hand.";

    RESULT_REPLACED = 527;
        means: "A file with the name of the result is no result and is replaced.";
        cause: "An attempt was cut off by a crash, or somebody else put the file there.";
        remedy: "Nothing.";

    SUMMARY_NOT_MARKED = 528;
        means: "The summary does not say that the recording was only remuxed.";
        cause: "main_path is not writable for a moment.";
        remedy: "Nothing for the recording itself.";

    JOBS_HANG = 529;
        means: "Jobs do not end at the program's end.";
        cause: "A disk, share or script does not answer.";
        remedy: "Look at main_path (`dmesg`, `mount`). The next start or another node goes on with them.";

    JOBS_NOT_LISTED = 530;
        means: "The jobs of an earlier run cannot be listed, so no job is taken.";
        cause: "The disk of recorder.state_dir fails.";
        remedy: "Look at that disk.";

    JOB_RESUMED = 531;
        means: "An earlier run was killed while it had this job in hand; it goes on.";
        cause: "The recorder was killed, or the host restarted.";
        remedy: "Nothing. Find out why the recorder ended.";

    JOB_REFUSED = 532;
        means: "A job was refused, as nobody can do it; the server is told.";
        cause: "Its paths or ids cannot be used. The line names the field.";
        remedy: "Look at what publishes into this stream, and at the versions of server and nodes.";

    JOB_PROGRESS_UNHEARD = 533;
        means: "The queue did not hear that a job is in work.";
        cause: "NATS is away or slow.";
        remedy: "Look at NATS. Another node may get the job too; the claim keeps the result single.";

    JOB_TWICE = 534;
        means: "The queue has handed out a job that is in hand here.";
        cause: "NATS did not hear in time that it is in work.";
        remedy: "Nothing: it is handed back.";

    JOB_NOT_SETTLED = 535;
        means: "The queue could not be told what became of a job.";
        cause: "NATS does not answer.";
        remedy: "Look at NATS. The queue hands the job out again.";
}
