//! Codes of delivery: notices and jobs in the outbox. Pure.

use crate::codes::code::room;

room! {
    DELIVERY: "Delivery: notices and jobs in the outbox";

    DROPPED_BY_OPERATOR = 701;
        means: "An operator has dropped a message, so the server is not told.";
        cause: "`outbox drop`.";
        remedy: "Nothing.";

    OPERATOR_REQUEST_KEPT = 702;
        means: "An operator's request cannot be removed, and is done again and again.";
        cause: "The disk of recorder.state_dir fails, or the file belongs to another user.";
        remedy: "Look at that disk, or remove the file in `<state_dir>/outbox` by hand.";

    DELIVERY_HANGS = 703;
        means: "The delivery does not end; the program ends without it.";
        cause: "The disk of recorder.state_dir does not answer.";
        remedy: "Look at that disk. The next start delivers.";

    OPERATOR_REQUESTS_UNREAD = 704;
        means: "What operators ask of the outbox cannot be read.";
        cause: "The disk of recorder.state_dir fails, or the directory belongs to another user.";
        remedy: "Look at the directory that the line names.";

    MESSAGES_UNREAD = 705;
        means: "The messages of a recording cannot be read and wait.";
        cause: "The disk of recorder.state_dir fails for the moment.";
        remedy: "Look at that disk; it is tried again every 5 s.";

    NOTICE_REFUSED = 706;
        means: "plugNmeet refuses a notice; it is kept and tried again.";
        cause: "The key or secret does not fit the server's (401), or the server does not know the room (404).";
        remedy: "Compare plugNmeet_info.api_key and api_secret with the server's. `outbox retry ID` tries at once, \
                 `outbox drop ID` gives it up.";

    NOTICE_NOT_TAKEN = 707;
        means: "The server has not taken a notice yet.";
        cause: "The server, its database or a proxy does not answer as plugNmeet does. The line names the answer.";
        remedy: "Look at the server; it is tried until it succeeds.";

    JOB_NOT_QUEUED = 708;
        means: "A job is not in the work queue yet.";
        cause: "NATS is away, or the server has not made the stream.";
        remedy: "Look at NATS and the server; it is tried until it succeeds.";

    JOB_BEFORE_NOTICE = 709;
        means: "A job goes out before the server knows of the recording's end.";
        cause: "The server has not taken the notice for 60 s.";
        remedy: "Look at the server. The notice follows.";

    NOT_DELIVERED = 710;
        means: "A message is not delivered at the program's end.";
        cause: "The server or NATS was away.";
        remedy: "Nothing: it is in the outbox for the next start.";

    OUTBOX_NOT_CLEANED = 711;
        means: "Messages that were told long ago cannot be removed from the outbox.";
        cause: "The disk of recorder.state_dir fails.";
        remedy: "Look at that disk; it is tried again in an hour.";
}
