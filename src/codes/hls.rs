//! Codes of HLS: recordings for players that change their rendition. Pure.

use crate::codes::code::room;

room! {
    HLS: "HLS: recordings for players that change their rendition";

    HLS_NOT_MADE = 1501;
        means: "A recording is not there as HLS yet.";
        recordings: "Safe: the MP4 is in its place, and the server knows it. Where storage.keep_local is not true, it stays \
                     in main_path as long.";
        cause: "ffmpeg failed, a disk is full or away, or the store of storage.deliver does not take the files. The line \
                names it.";
        remedy: "Do what the line says. `plugnmeet-recorder hls list` shows what waits and its next try, \
                 `plugnmeet-recorder hls drop ID` gives one up.";

    HLS_RECORD_NOT_WRITTEN = 1502;
        means: "The record of a recording that becomes HLS is not on disk.";
        recordings: "Safe. After a crash its HLS may be made again, or not at all.";
        cause: "The disk of recorder.state_dir is full, read-only or does not answer. The line names the error.";
        remedy: "Free room there or bring it back (`df -h`, `dmesg -T`). It is written by itself then.";

    HLS_RECORDS_UNREAD = 1503;
        means: "The records of recordings that become HLS cannot be read, so that what an earlier run has left waits.";
        recordings: "Safe as MP4.";
        cause: "The disk of recorder.state_dir fails, or the directory belongs to another user. The line names it.";
        remedy: "Look at that disk (`dmesg -T`), or give the directory to the recorder's user (`chown`). It is tried \
                 again every 5 s.";

    HLS_DROPPED = 1504;
        means: "An operator has dropped the HLS of a recording.";
        recordings: "Safe as MP4. There is no HLS of it.";
        cause: "Somebody used `plugnmeet-recorder hls drop ID`. The line names the recording.";
        remedy: "Nothing, where it was meant.";

    HLS_WITHOUT_MP4 = 1505;
        means: "A recording does not become HLS, as its MP4 is not in main_path, or not in the store, any more.";
        recordings: "Not concerned: the server, a hook or a script has deleted or moved it.";
        cause: "It was deleted or moved between its end and its turn. The line names the file.";
        remedy: "Where a hook or script moves MP4s away, have it copy them: HLS is made of the file in main_path.";

    HLS_NOT_REMOVED = 1506;
        means: "The HLS of a recording that is not there any more cannot be removed.";
        recordings: "Not concerned; it takes room in main_path, and who knows its address can see it.";
        cause: "The disk of main_path fails, or the directory belongs to another user. The line names it.";
        remedy: "Look at that disk (`dmesg -T`), or remove the directory that the line names by hand (`rm -r`). It is tried \
                 again every hour.";

    UNKNOWN_HLS = 1507;
        means: "This node has no HLS of such a recording to make.";
        recordings: "Not concerned.";
        cause: "The id is misspelt, the HLS is there already, or another node makes it.";
        remedy: "`plugnmeet-recorder hls list` on the node that made the MP4 shows what waits.";

    HLS_ORDER_NOT_WRITTEN = 1508;
        means: "The order to give up the HLS of a recording cannot be written.";
        recordings: "Not concerned: it is made as before.";
        cause: "The disk of recorder.state_dir is full or read-only, or the command runs as another user than the \
                recorder.";
        remedy: "Give the command as the recorder's user (`sudo -u plugnmeet-recorder`), and look at that disk (`df -h`).";

    LIVE_HLS_ENDED = 1509;
        means: "A recording that was published while it ran (hls.live) is not published any more.";
        recordings: "Safe: it goes on, and becomes HLS of its MP4. Its viewers see the end of the playlists until then.";
        cause: "ffmpeg failed or was too slow, the disk of main_path took nothing for a minute, or the picture had no \
                keyframe for too long. The line says which.";
        remedy: "Where it is too slow, leave renditions out of hls.renditions or lower recorder.max_limit; where keyframes \
                 are missing, leave options about them out of ffmpeg_settings; else look at that disk (`df -h`).";

    LIVE_HLS_LATE = 1510;
        means: "What is published of a recording that runs is late in main_path, or in the store.";
        recordings: "Safe: the recording goes on. Its viewers wait, or are further behind.";
        cause: "The disk of main_path, or the store of storage.deliver, does not take the files. The line names it.";
        remedy: "Do what the line says. It is tried again at once; main_path for a minute, a store until the recording has \
                 ended, and then once more with its MP4.";
}
