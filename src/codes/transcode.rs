//! Codes of transcoding: jobs, results, claims. Pure.

use crate::codes::code::room;

room! {
    TRANSCODE: "Transcoding: jobs, results, claims";

    PARTS_ENCODED_ANEW = 501;
        means: "The parts could not be joined as they are and are encoded anew.";
        recordings: "Safe. Its file is there later, and its quality is a little lower.";
        cause: "Their sizes or codecs differ, as after a change of the configuration between two parts. The line \
                names the error.";
        remedy: "Nothing.";

    PART_LEFT_OUT = 502;
        means: "A part cannot be played and is left out.";
        recordings: "This piece is missing in the joined recording. A file of it that is not empty is kept \
                     (PNR-0274).";
        cause: "The file is damaged or empty: the capture broke before its first frame, or its disk or the power \
                failed while it was written. The line names it and the cause.";
        remedy: "Look at the file with `ffprobe` and `dmesg -T` for its disk, and move it away if it is of use.";

    RAW_NOT_DECODABLE = 503;
        means: "The MP4 cannot be decoded at one place, and neither can its raw file.";
        recordings: "The MP4 is delivered; a moment of it may not play. The raw file is no better.";
        cause: "The raw file is damaged there, as by a kill or a disk. The line names the place.";
        remedy: "Nothing for this recording. Where it repeats, look at the disk of recorder.temporary_dir (`dmesg \
                 -T`).";

    MEASURED_AGAIN = 504;
        means: "A file was not measured to its end and is measured again.";
        recordings: "Safe.";
        cause: "The disk is slow, or ffprobe was killed, as when memory runs out. The line names the file.";
        remedy: "Nothing where the line comes once. Else look at the disk of that file (`dmesg -T`) and at memory \
                 (`journalctl -k`).";

    NOT_ACKNOWLEDGED_YET = 505;
        means: "A transcoding job is done, but NATS does not confirm that it is.";
        recordings: "The MP4 is in place and told to the server. Its raw file is kept until NATS confirms.";
        cause: "NATS does not answer, or its stream has no leader. The line names the error.";
        remedy: "Look at NATS (`nats server report jetstream`); it is tried until it is confirmed.";

    NOT_ACKNOWLEDGED = 506;
        means: "A job is done and not acknowledged at the program's end.";
        recordings: "The MP4 is in place and told to the server. The raw file is kept until then.";
        cause: "NATS was away while the program ended.";
        remedy: "Nothing: the next start acknowledges it.";

    CLAIM_NOT_MARKED = 507;
        means: "The claim beside an MP4 does not say yet that the server was told.";
        recordings: "The MP4 is safe. At worst the server is told twice.";
        cause: "main_path is away or not writable. The line names file and error.";
        remedy: "See that main_path is mounted and writable (`touch` a file there as the recorder's user).";

    CLAIM_TAKEN_OVER = 508;
        means: "Another node has left its job unfinished, and this one takes it on.";
        recordings: "Safe: its MP4 is delivered by this node.";
        cause: "That node died, was cut off, or its share of main_path was away. The line names it.";
        remedy: "See whether the node that the line names runs, and its main_path is mounted.";

    QUEUE_OVERDUE = 509;
        means: "A job has waited for longer than transcoder.max_wait and is taken though the processors are busy.";
        recordings: "Running recordings may lose frames while the job runs. No recording is lost.";
        cause: "Recordings keep the processors above recorder.transcoding_cpu_limit_both_mode for longer than \
                transcoder.max_wait.";
        remedy: "Add a node in mode `transcoderOnly`; or raise transcoder.max_wait where MP4s may come later.";

    OUTSIDE_FAULT = 510;
        means: "A disk, share or hook keeps a recording from being transcoded; the job waits on this node.";
        recordings: "Safe: its raw file is kept. There is no MP4 before the fault is mended.";
        cause: "A disk or share is away, full or fails, or a pre_transcoding hook fails. The line names the cause.";
        remedy: "Mend what the line names. It is tried again by itself every 5 min; `plugnmeet-recorder jobs list` \
                 shows it.";

    ATTEMPT_FAILED = 511;
        means: "An attempt at a transcoding job failed.";
        recordings: "Safe: its raw file is kept, and the job is tried three times.";
        cause: "ffmpeg, the raw file, a disk or a hook. The line names the cause, and the number of the attempt.";
        remedy: "Mend the cause before the last attempt; `retry_s` in the line says when the next one is.";

    JOB_GIVEN_UP = 512;
        means: "Transcoding failed for the last time; the raw file is kept.";
        recordings: "Safe: its raw file `<recording_id>_raw.mkv` is kept. There is no MP4, and the server is told \
                     so.";
        cause: "ffmpeg, the raw file or a hook failed three times, and so did the other ways to an MP4. The line \
                names the cause; ffmpeg's own lines are above.";
        remedy: "Mend the cause, mostly an option in ffmpeg_settings.post_recording, restart the recorder if the \
                 configuration has changed, then `plugnmeet-recorder jobs retry ID`.";

    RESULT_ELSEWHERE = 513;
        means: "Another node has this job's MP4 in hand, and this node looks for it once more.";
        recordings: "Safe.";
        cause: "Two nodes had the same job. The line names the other one.";
        remedy: "Nothing.";

    FETCHED_NOT_REMOVED = 514;
        means: "The copy that a pre_transcoding hook, or this node from a store, has fetched is not removed.";
        recordings: "Safe; the copy only takes room.";
        cause: "Its disk fails, the files belong to another user, or it is a directory that the recorder does not \
                remove. The line says which.";
        remedy: "Remove the directory that the line names, if nothing else is in it.";

    CLAIM_LOST = 515;
        means: "Another node has taken this MP4 on; the server is told from here all the same.";
        recordings: "Safe. At worst the server is told twice.";
        cause: "This node was cut off from NATS or main_path for longer than 10 min with the job in hand. The line \
                names the other one.";
        remedy: "Nothing. Where it repeats, look at this node's network and at main_path.";

    CLAIM_NOT_MADE = 516;
        means: "No claim can be put beside an MP4; the server is told all the same.";
        recordings: "Safe. At worst the server is told twice.";
        cause: "main_path is away or not writable for the moment. The line names file and error.";
        remedy: "See that main_path is mounted and writable for the recorder's user.";

    CLAIM_NOT_REMOVED = 517;
        means: "The claim beside an MP4 cannot be removed.";
        recordings: "Safe.";
        cause: "main_path is away or not writable.";
        remedy: "Nothing: it is void after 10 min. See that main_path is mounted and writable.";

    POST_HOOKS_FAILED = 518;
        means: "The post_transcoding hooks failed for the last time; the MP4 stays where it was made.";
        recordings: "Safe, and the server is told of the MP4 at this place.";
        cause: "A hook under `hooks.post_transcoding` ended with an error, took too long or gave no usable answer. \
                The line names it and the MP4.";
        remedy: "Mend the hook; `plugnmeet-recorder hooks test post_transcoding` tries it. Do by hand what it should \
                 have done with the MP4: it is not run again for this recording.";

    JOB_FILES_NOT_REMOVED = 519;
        means: "A job is done, but its raw file and claim cannot be removed.";
        recordings: "Safe: its MP4 is in place. The raw file only takes room.";
        cause: "main_path is read-only, away or hangs, or forbids to remove files.";
        remedy: "See that the recorder's user may remove files in main_path (of mountpoint-s3: `--allow-delete`). It \
                 is tried again, also by the next start.";

    JOB_UNUSABLE = 520;
        means: "A job from the queue is no transcoding job and is dropped; its bytes are kept in a file.";
        recordings: "Its recording, if it is about one, gets no MP4. The raw file is not touched.";
        cause: "It is of another version or program, or damaged: `cause` says what is wrong. The file is in \
                `undecodable-jobs` in recorder.temporary_dir.";
        remedy: "See what else publishes on nats_info.recorder.transcoding_jobs_subject, and compare the versions of \
                 server and recorders. `plugnmeet-recorder jobs list` shows it, `plugnmeet-recorder jobs drop ID` \
                 forgets it.";

    JOB_UNUSABLE_LOST = 521;
        means: "A job from the queue is no transcoding job; it is dropped, and its bytes could not be kept.";
        recordings: "Its recording, if it is about one, gets no MP4. The raw file is not touched.";
        cause: "It is of another version or program, or damaged; and recorder.temporary_dir cannot be written.";
        remedy: "Keep this line: `start` has the first bytes of the job, in hexadecimal. Free room in \
                 recorder.temporary_dir or bring its disk back (`df -h`, `dmesg -T`).";

    JOB_RECORD_NOT_WRITTEN = 522;
        means: "The record of a job is not on disk.";
        recordings: "The job goes on. A crash now would repeat steps of it: a hook or script may run twice, and no \
                     MP4 is lost.";
        cause: "The disk of recorder.state_dir is full, read-only or does not answer. The line names the file.";
        remedy: "Free room there or bring it back (`df -h`, `dmesg -T`).";

    JOB_RECORD_NOT_REMOVED = 523;
        means: "The record of a job is not removed yet.";
        recordings: "Safe.";
        cause: "The disk of recorder.state_dir fails or is read-only. The line names the file.";
        remedy: "Look at that disk (`dmesg -T`). The next start looks at the job once more.";

    JOB_RECORD_UNREAD = 524;
        means: "The record of a job of an earlier run cannot be read.";
        recordings: "Safe. The job waits for its record, or goes on and may repeat hooks and scripts; the line says \
                     which.";
        cause: "The disk of recorder.state_dir fails, or the file belongs to another user. The line names file and \
                error.";
        remedy: "Mend that disk (`dmesg -T`), or give the file to the recorder's user (`chown`). It is tried again.";

    LAST_RESORT = 525;
        means: "The MP4 could not be made as configured at the last attempt, so simpler ways are tried.";
        recordings: "The raw file is kept in any case. The MP4 may be larger or shorter than usual.";
        cause: "ffmpeg fails on the raw file, mostly for an option in ffmpeg_settings.post_recording. The line names \
                the cause.";
        remedy: "Correct ffmpeg_settings.post_recording, restart the recorder, then `plugnmeet-recorder jobs retry \
                 ID` makes the MP4 anew.";

    RAW_KEPT = 526;
        means: "The raw file is kept, as the MP4 may not hold all of it.";
        recordings: "The MP4 is delivered, and may not hold all of the recording. The raw file is kept.";
        cause: "The raw file could not be measured to its end, or its picture has no keyframe. The line names the \
                file and why.";
        remedy: "Compare the lengths of both (`ffprobe`). If the MP4 is whole, remove the raw file that the line \
                 names; if not, copy it away.";

    RESULT_REPLACED = 527;
        means: "A file with the name of the MP4 is not this recording's MP4 and is replaced.";
        recordings: "Safe: the MP4 is made of the raw file. What was in the other file is gone then.";
        cause: "An attempt was cut off by a crash, or somebody put the file there. The line names it and why.";
        remedy: "Nothing, after a crash. Else see who writes in main_path.";

    SUMMARY_NOT_MARKED = 528;
        means: "The summary does not say that the MP4 was not encoded as configured.";
        recordings: "Safe.";
        cause: "main_path is away or not writable for the moment. The line names the file.";
        remedy: "Nothing.";

    JOBS_HANG = 529;
        means: "Jobs do not end at the program's end.";
        recordings: "Safe: their raw files are kept, and the next start or another node goes on.";
        cause: "main_path, another disk, or a script does not answer.";
        remedy: "Find the mount that hangs (`dmesg -T`, `stat` on main_path) and bring it back.";

    JOBS_NOT_LISTED = 530;
        means: "The jobs of an earlier run cannot be listed, so this node takes no job.";
        recordings: "Raw files wait; other nodes transcode meanwhile.";
        cause: "The disk of recorder.state_dir fails, or its directory `jobs` belongs to another user. The line \
                names the error.";
        remedy: "Mend that disk (`dmesg -T`), or give the directory to the recorder's user (`chown`). It is tried \
                 again by itself.";

    JOB_RESUMED = 531;
        means: "An earlier run was killed while it had this job in hand; it goes on.";
        recordings: "Safe.";
        cause: "The recorder was killed, or the host restarted.";
        remedy: "Nothing. If nobody restarted it, `journalctl -k` may say what killed it.";

    JOB_REFUSED = 532;
        means: "A job can be done by no node; it is dropped, and the server is told that it has failed.";
        recordings: "The recording gets no MP4 by this job. Its raw file, if there is one, is not touched.";
        cause: "Its paths or ids cannot be used, or its files are outside of main_path. The line names the field.";
        remedy: "See what publishes on nats_info.recorder.transcoding_jobs_subject, and that server and all nodes \
                 have the same main_path and fitting versions.";

    JOB_PROGRESS_UNHEARD = 533;
        means: "NATS did not hear that a job is in work.";
        recordings: "Safe. Another node may be given the job too, and one result counts.";
        cause: "NATS is away or slow. The line names the error.";
        remedy: "Look at NATS where it repeats (`nats server report jetstream`).";

    JOB_TWICE = 534;
        means: "NATS has handed out a job that is in hand here.";
        recordings: "Safe.";
        cause: "NATS did not hear in time that it is in work (PNR-0533).";
        remedy: "Nothing: it is handed back.";

    JOB_NOT_SETTLED = 535;
        means: "NATS could not be told what became of a job.";
        recordings: "Safe: NATS hands the job out again.";
        cause: "NATS does not answer. The line names the error.";
        remedy: "Look at NATS where it repeats (`nats server report jetstream`).";

    NOT_FINISHED = 536;
        means: "What was encoded while the recording ran makes no good MP4, so the raw file is encoded anew.";
        recordings: "Safe. Its MP4 comes later than usual.";
        cause: "The raw file is damaged, as by a kill or a disk, so that a copy of it lacks sound or cannot be decoded, \
                or this ffmpeg writes the MP4 in another way than expected, or encodes in another way than that of the \
                recording node (other versions), or the disk has too little room. The line names the cause.";
        remedy: "Nothing for this recording. Where it repeats, set `ffmpeg_settings.one_pass: false`, and send the line \
                 to the developers.";

    EARLY_MP4_UNUSABLE = 537;
        means: "The MP4 that was written while the recording ran is no good, so it is made again from the raw file.";
        recordings: "Safe. Its MP4 comes later than usual.";
        cause: "A disk has lost what was written, or the raw file or that MP4 was changed since. The line names the \
                cause.";
        remedy: "Nothing for this recording. Where it repeats, look at the disk of main_path, or set \
                 `ffmpeg_settings.early_mp4_from_mb: 0`, and send the line to the developers.";
}
