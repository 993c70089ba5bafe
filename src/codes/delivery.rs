//! Codes of delivery: notices and jobs in the outbox. Pure.

use crate::codes::code::room;

room! {
    DELIVERY: "Delivery: notices and jobs in the outbox";

    DROPPED_BY_OPERATOR = 701;
        means: "An operator has dropped a message: the server or the work queue is not told.";
        recordings: "The media are not touched. Where it was the job, the recording gets no MP4; where it was \
                     `proceeded`, the server does not list it.";
        cause: "Somebody used `plugnmeet-recorder outbox drop ID` or the node's page. The line names the message.";
        remedy: "Nothing, where it was meant. It cannot be taken back.";

    OPERATOR_REQUEST_KEPT = 702;
        means: "An operator's order about messages cannot be removed, and is carried out again and again.";
        recordings: "Safe.";
        cause: "The disk of recorder.state_dir fails or is read-only, or the file belongs to another user.";
        remedy: "Look at that disk (`dmesg -T`), or remove the file by hand from `outbox-requests` in \
                 recorder.state_dir.";

    DELIVERY_HANGS = 703;
        means: "Messages are still being delivered when the program has to end; it ends without.";
        recordings: "Safe. The messages are in the outbox, as far as they are on disk.";
        cause: "The disk of recorder.state_dir does not answer.";
        remedy: "Bring that disk back (`dmesg -T`). The next start delivers.";

    OPERATOR_REQUESTS_UNREAD = 704;
        means: "What operators have ordered about messages (retry, drop) cannot be read.";
        recordings: "Not concerned.";
        cause: "The disk of recorder.state_dir fails, or the directory belongs to another user. The line names it.";
        remedy: "Look at that disk (`dmesg -T`), or give the directory to the recorder's user (`chown`). It is tried \
                 again every 5 s.";

    MESSAGES_UNREAD = 705;
        means: "The messages of a recording cannot be read and wait.";
        recordings: "Safe; the server is told of it when the file is read. A recording of an earlier run does not go \
                     on before.";
        cause: "The disk of recorder.state_dir fails for the moment. The line names file and error.";
        remedy: "Mend that disk (`dmesg -T`); it is tried again every 5 s.";

    NOTICE_REFUSED = 706;
        means: "The plugNmeet server refuses a notice; it is kept and tried again.";
        recordings: "Safe. The server does not know of it, or of its MP4, until the notice is taken; later notices \
                     of it wait behind this one.";
        cause: "401: plugNmeet_info.api_key or plugNmeet_info.api_secret is not the server's. 404: its database does \
                not have the room. Else it cannot read the notice. The line names which.";
        remedy: "Of 401, correct the two keys, restart the recorder, and everything is sent. Of 404, see whether the \
                 server has another database than before. `plugnmeet-recorder outbox retry ID` tries at once, \
                 `plugnmeet-recorder outbox drop ID` gives it up for ever.";

    NOTICE_NOT_TAKEN = 707;
        means: "The plugNmeet server has not taken a notice yet.";
        recordings: "Safe. The server is told as soon as it answers.";
        cause: "The server, its database or a proxy before it does not answer as plugNmeet does. The line names the \
                answer.";
        remedy: "Look at the plugNmeet server, and `curl -v` the address in plugNmeet_info.host from here. It is \
                 tried at least every 30 s until it succeeds.";

    JOB_NOT_QUEUED = 708;
        means: "A transcoding job is not in the work queue yet.";
        recordings: "Safe as a raw file. Its MP4 is made when the job is in the queue.";
        cause: "NATS is away, or the plugNmeet server has not made the stream. The line names the error.";
        remedy: "Start NATS and the plugNmeet server, and see that nats_info.recorder.transcoding_jobs_subject is \
                 the same there. It is tried until it succeeds.";

    JOB_BEFORE_NOTICE = 709;
        means: "A transcoding job goes out although the server does not know of the recording's end yet.";
        recordings: "Safe, and its MP4 is made now.";
        cause: "The plugNmeet server has not taken the notice for 60 s (PNR-0707 or PNR-0706 says why).";
        remedy: "Look at the plugNmeet server. The notice follows by itself.";

    NOT_DELIVERED = 710;
        means: "A message is not delivered when the program ends.";
        recordings: "Safe: the message is in the outbox for the next start.";
        cause: "The plugNmeet server or NATS was away. The line names the message and why.";
        remedy: "Start the recorder again. If this host will not come back, its recordings need the records in \
                 recorder.state_dir: copy them to the node that takes over.";

    OUTBOX_NOT_CLEANED = 711;
        means: "Messages that were told long ago cannot be removed from the outbox.";
        recordings: "Not concerned.";
        cause: "The disk of recorder.state_dir fails, is read-only or does not answer. The line names the error.";
        remedy: "Look at that disk (`dmesg -T`); it is tried again in an hour.";
}
