//! Codes of object stores: delivery of finished MP4s, raw files between nodes, copies of what cannot be transcoded, and
//! archives of running recordings. Pure.

use crate::codes::code::room;

room! {
    STORE: "Object stores: delivery of finished MP4s, and raw files between nodes";

    NOT_IN_THE_STORE = 1401;
        means: "A recording is not in the store of storage.deliver yet.";
        recordings: "Safe: the MP4 stays in main_path, and is tried until the store has it. Where storage.keep_local is \
                     not true, the server lists the recording only then.";
        cause: "The store is away, is full, refuses the credentials, or has no such bucket. The line names what it says.";
        remedy: "`plugnmeet-recorder store check` says what works and what to do. `plugnmeet-recorder store list` shows \
                 what waits, `plugnmeet-recorder store drop ID` gives one up.";

    UPLOAD_RECORD_NOT_WRITTEN = 1402;
        means: "The record of an upload is not on disk.";
        recordings: "Safe. After a crash the MP4 may be sent to the store again.";
        cause: "The disk of recorder.state_dir is full, read-only or does not answer. The line names the error.";
        remedy: "Free room there or bring it back (`df -h`, `dmesg -T`). It is written by itself then.";

    UPLOAD_RECORDS_UNREAD = 1403;
        means: "The records of uploads cannot be read, so that what an earlier run has left waits.";
        recordings: "Safe in main_path; they go into the store when the records can be read.";
        cause: "The disk of recorder.state_dir fails, or the directory belongs to another user. The line names it.";
        remedy: "Look at that disk (`dmesg -T`), or give the directory to the recorder's user (`chown`). It is tried \
                 again every 5 s.";

    UPLOAD_NOT_ABORTED = 1404;
        means: "An unfinished upload in the store cannot be given up.";
        recordings: "Not concerned; what was sent of the upload may cost room in the store.";
        cause: "The store is away, or the credentials may not abort uploads. The line names what it says.";
        remedy: "Give the credentials the right (S3: `s3:AbortMultipartUpload`, `s3:ListBucketMultipartUploads`), and the \
                 bucket a rule that removes unfinished uploads after some days.";

    UPLOAD_DROPPED = 1405;
        means: "An operator has dropped the delivery of a recording.";
        recordings: "The MP4 stays in main_path, and the server knows it there. The store does not get it.";
        cause: "Somebody used `plugnmeet-recorder store drop ID`. The line names the recording.";
        remedy: "Nothing, where it was meant. Else copy the file into the store by hand.";

    LOCAL_COPY_KEPT = 1406;
        means: "The local MP4 of a delivered recording stays, though storage.keep_local would have it removed.";
        recordings: "Safe in main_path.";
        cause: "The store that has it is configured no more, has the object no more, or has another one of its name. The \
                line says which.";
        remedy: "Where the recording was deleted, remove the file that the line names. Else see what has become of the \
                 object in the store.";

    STORE_NOT_READY = 1407;
        means: "The store of storage.deliver cannot do what delivery needs.";
        recordings: "Safe: they stay in main_path until the store takes them.";
        cause: "The store is away, refuses the credentials, or lacks something. The line names what failed.";
        remedy: "Do what the line says; `plugnmeet-recorder store check` tries it again. The recorder does so by itself \
                 every 5 min.";

    STORE_HOOK_FAILED = 1408;
        means: "The server has asked for a recording in the store, or to delete one, and the store did not do it.";
        recordings: "Not concerned. Users cannot download or delete the recording now.";
        cause: "The store is away, or the credentials may not do this. The line names what it says.";
        remedy: "`plugnmeet-recorder store check` on this host says what to do.";

    WRONG_HOOKS_SECRET = 1409;
        means: "Somebody has asked the storage hooks with a wrong secret.";
        cause: "The secret in the server's configuration is not storage.hooks_secret, or somebody guesses.";
        remedy: "Write the value of storage.hooks_secret into the URLs of the server's hooks. Where nobody should reach \
                 admin.listen, let a firewall guard it.";

    RAW_NOT_IN_THE_STORE = 1410;
        means: "A raw file is not in the store of storage.raw yet.";
        recordings: "Safe: the raw file stays in main_path of the node that recorded it, and is tried until the store has it. \
                     There is no MP4 before that.";
        cause: "The store is away, is full, refuses the credentials, or has no such bucket. The line names what it says.";
        remedy: "`plugnmeet-recorder check` says what works and what to do; `plugnmeet-recorder recordings list` shows what \
                 waits.";

    RAW_OBJECT_LEFT = 1411;
        means: "A job is done, and its raw file stays in a store that storage.raw does not name any more.";
        recordings: "Safe: the MP4 is made. The raw file only takes room.";
        cause: "storage.raw was changed or removed between the job and its last step. The line names the object.";
        remedy: "Remove the object by hand, with its summary (_raw.json) and its claim (.claim).";

    RAW_WITHOUT_DELIVERY = 1412;
        means: "This node fetches raw files from a store, and keeps their MP4s in its own main_path.";
        recordings: "Safe, but users get them only where the plugNmeet server sees that main_path.";
        cause: "storage.raw is set, and storage.deliver is not.";
        remedy: "Set storage.deliver, unless main_path is a directory that the server sees.";

    RAW_COPY_WAITS = 1413;
        means: "A raw file that could not be transcoded is not in the store of storage.fail yet.";
        recordings: "Safe: the raw file stays in main_path, and is tried until the store has a copy.";
        cause: "The store is away, is full, refuses the credentials, or has no such bucket. The line names what it says.";
        remedy: "`plugnmeet-recorder store check` says what works and what to do. `plugnmeet-recorder store list` shows \
                 what waits, `plugnmeet-recorder store drop ID` gives it up.";

    RAW_NOT_COPIED = 1414;
        means: "A raw file that could not be transcoded is not copied into the store of storage.fail.";
        recordings: "As the line of the job says. What main_path has of it stays there.";
        cause: "The raw file is not in main_path: a hook has fetched it from elsewhere, an operator's retry has transcoded \
                it meanwhile, or somebody has removed it. The line names it.";
        remedy: "Nothing, where one of these was meant. Else look for the file under the name in the line.";

    NO_PICTURES = 1415;
        means: "A delivered recording gets no poster and thumbnails.";
        recordings: "Whole: the MP4 and its summary are in the store. Only the pictures beside it are missing.";
        cause: "ffmpeg makes no picture of the MP4, or takes too long on a busy machine, or the disk of main_path does not \
                answer. The line names what it says.";
        remedy: "Play the MP4. Where it plays, nothing needs to be done.";

    HOOK_STORE_REFUSED = 1416;
        means: "The store that a hook has answered for a recording is not used.";
        recordings: "Delivered into the store of the configuration for their room, if there is one.";
        cause: "The `store` of the hook's answer is no URL, or not that of storage.deliver or of a rule in storage.rules, or \
                the summary beside the raw file does not take it. The line says which.";
        remedy: "Let the hook answer a URL as the configuration has it, without key and options, or `none`; or add a rule \
                 with that store.";

    DELIVERY_UNFINISHED = 1417;
        means: "The store has a recording, but what follows its delivery fails.";
        recordings: "Safe: in the store, and in main_path until it is done.";
        cause: "The notices for the server are not on disk, the store does not take the poster and the thumbnails, or the \
                local MP4 cannot be removed. The line names the error.";
        remedy: "Do what the line says. It is tried again until it is done.";

    NOT_ARCHIVED_YET = 1430;
        means: "A running recording is not in the archive of storage.archive now, or not all of it.";
        recordings: "Go on, and are safe on this host. If the host is destroyed before the archive has the rest, that is \
                     lost.";
        cause: "The store is away, full or too slow for the recordings, or refuses the credentials. The line names what it \
                says.";
        remedy: "`plugnmeet-recorder store check` says what works and what to do. The metric archive_pieces_waiting counts \
                 what waits; it is sent by itself.";

    ARCHIVE_NOT_ENDED = 1431;
        means: "A recording is over, and the archive does not know it yet.";
        recordings: "Safe. If this host is gone for a minute before the archive knows, another node makes a second MP4 of \
                     it.";
        cause: "The store of storage.archive is away, or refuses the credentials. The line names what it says.";
        remedy: "`plugnmeet-recorder store check` says what works and what to do. It is tried on by itself.";

    TAKEN_OVER = 1432;
        means: "The recorder of a recording is gone, and this node takes the recording over from the archive.";
        recordings: "The recording goes on here where its meeting goes on, else its MP4 is made of what the archive has.";
        cause: "The other node's host, its network or its recorder has been away for a minute.";
        remedy: "See what has become of that node. Where it still runs, it finds that its recording was taken over, and \
                 hands in what the archive lacks.";

    NOT_TAKEN_OVER_YET = 1433;
        means: "A recording whose recorder is gone cannot be taken over yet.";
        recordings: "Safe in the archive; tried on.";
        cause: "The store of storage.archive, or the disk of recorder.temporary_dir, fails. The line names it.";
        remedy: "`plugnmeet-recorder store check` says what works. `plugnmeet-recorder recordings rebuild ROOM_ID/RECORDING_ID` \
                 does the same by hand.";

    LOST_TO_ANOTHER_NODE = 1434;
        means: "A recording of this node was taken over by another one, since this one seemed to be gone.";
        recordings: "The other node goes on and delivers it. What this node has and the archive lacks is sent there.";
        cause: "This node was cut off from NATS, or stood still, for a minute or longer.";
        remedy: "See why: the network between this host and NATS, the load of the host, `dmesg -T`.";

    ARCHIVE_WITHOUT_LEASES = 1435;
        means: "The store of storage.archive cannot say which of several nodes takes a recording over.";
        recordings: "Are archived. Those of a node that is gone are not taken over by themselves.";
        cause: "The store replaces an object where it was asked to put it only if there is none.";
        remedy: "Take a store with conditional puts (Amazon S3, MinIO, Google, Azure, a file:// share). Until then \
                 `plugnmeet-recorder recordings rebuild ROOM_ID/RECORDING_ID` takes one over by hand.";

    LATE_PARTS_NOT_FETCHED = 1436;
        means: "What an earlier recorder of a recording has handed in after the recording was taken over is not in its MP4.";
        recordings: "The MP4 is made of what this node has; its gaps are in the summary. The archive goes when the MP4 is \
                     made, unless storage.archive_keep is set.";
        cause: "The store of storage.archive, or the disk of recorder.temporary_dir, failed for some time when the recording \
                ended, or has no room. The line names it.";
        remedy: "`plugnmeet-recorder store check` says what works. Leave room on the disk: see recorder.min_free_space.";

    NOTHING_TO_TAKE_OVER = 1437;
        means: "The recorder of a recording is gone, and the archive has nothing of the recording that can be read.";
        recordings: "Left to its recorder, which goes on or delivers it when it comes back. Nobody else can.";
        cause: "The node was gone before its first piece was in the store: its store was away, or it died within seconds.";
        remedy: "Bring that node back, with its recorder.temporary_dir and recorder.state_dir. Where it is gone for good, remove \
                 the object `.running/NODE/ROOM_ID/RECORDING_ID` from the store.";
}
