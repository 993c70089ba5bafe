//! Codes of object stores: delivery of finished MP4s, and copies of what cannot be transcoded. Pure.

use crate::codes::code::room;

room! {
    STORE: "Object stores: delivery of finished MP4s";

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

    RAW_NOT_IN_THE_STORE = 1413;
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
}
