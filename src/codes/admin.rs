//! Codes of `admin.listen`: health, metrics, the page. Pure.

use crate::codes::code::room;

room! {
    ADMIN: "Health, metrics and the node's page (admin.listen)";

    WRONG_TOKEN = 1101;
        means: "A wrong token was given to admin.listen and refused.";
        cause: "A monitoring system or an operator has an old token, or somebody guesses. The line names the \
                address.";
        remedy: "If the address is one of yours, give it the token in admin.token or admin.token_file. If it is a \
                 stranger's, let a firewall guard the port of admin.listen.";

    TOKEN_FILE_UNREADABLE = 1102;
        means: "admin.token_file cannot be read, so nobody can log in to the node's page or drain this node.";
        cause: "The file is missing, empty, or not readable for the recorder's user. The answer names it and the \
                error.";
        remedy: "Write one token into the file (`openssl rand -hex 32`) and give it to the recorder's user (`chown`, \
                 mode 600). No restart is needed.";

    LISTEN_FAILED = 1103;
        means: "admin.listen cannot be opened, so health, metrics and the node's page are not there.";
        recordings: "Not concerned.";
        cause: "Another program has the port, often a second node on this host, or the address is not this host's. \
                The line names the error.";
        remedy: "`ss -ltnp` shows who has the port. Give each node a port of its own in admin.listen, or `\"\"` for \
                 none, and restart it. A port that becomes free is taken within a minute.";

    NOT_LOGGED_IN = 1104;
        means: "A request to the node's page or to /drain has no valid token or session.";
        cause: "Nobody has logged in, the session of 12 h is over, the token was changed, or the header is missing.";
        remedy: "Log in on the page, or send `Authorization: Bearer TOKEN` with the token of admin.token or \
                 admin.token_file.";

    FOREIGN_PAGE = 1105;
        means: "A request was refused because another page sent it, or it was sent to another name than this node's.";
        cause: "A page of somebody else asked in a browser, the node's page was opened under another name, or a \
                proxy does not pass on `Host`.";
        remedy: "Open the page at the address in admin.listen. Send orders by `curl`, without `Origin`; let a proxy \
                 pass on `Host` (docs/page.md).";

    DRAIN_NOT_CONFIGURED = 1106;
        means: "Nobody may drain this node or use its page, as no token is configured.";
        cause: "Neither admin.token nor admin.token_file is set, nor admin.allow_drain_without_token where \
                admin.listen is 127.0.0.1.";
        remedy: "Set admin.token_file, or admin.token, and restart the recorder when it is idle. `systemctl stop \
                 plugnmeet-recorder` drains without a token, and ends the recorder when its recordings have ended.";

    TOO_MANY_LOGINS = 1107;
        means: "An address that gave ten wrong tokens within a minute has to wait.";
        cause: "Somebody guesses, or a program has an old token and repeats it.";
        remedy: "Wait as long as the answer says, at most a minute, then give the right token.";

    NOTHING_THERE = 1108;
        means: "What a request names is not there.";
        cause: "The path or the id is wrong, the recording has ended, or its files are on another node.";
        remedy: "The node's page lists what is there; docs/page.md and docs/signals.md list the paths. \
                 `plugnmeet-recorder status` names the other nodes.";

    BAD_REQUEST = 1109;
        means: "A request to admin.listen cannot be carried out as it was sent.";
        cause: "The id has characters that no id has, the request has a body, or it would drop a job, which the page \
                does not do. The answer says which.";
        remedy: "Correct the request (docs/signals.md, docs/page.md). `plugnmeet-recorder outbox drop ID job` drops \
                 a job that is not in the queue yet.";

    TOO_MANY_VIEWERS = 1110;
        means: "More than 16 viewers look at the node's page, or more than 8 videos play.";
        recordings: "Not concerned: that is what the limit is for.";
        cause: "Forgotten windows count too, for up to 10 min.";
        remedy: "Close other windows of the page, and try again.";

    NO_ORDERS_NOW = 1111;
        means: "The node takes no orders at the moment, and has not carried this one out.";
        recordings: "Not concerned.";
        cause: "It is starting, ending or very busy.";
        remedy: "Try again in some seconds. If it stays so, look at the load (`top`) and at the last lines of the \
                 log.";

    NOT_READABLE_NOW = 1112;
        means: "What a request asks for cannot be read now.";
        recordings: "Not concerned by this answer.";
        cause: "The disk of recorder.state_dir or of main_path fails or does not answer. The answer names the error.";
        remedy: "Mount it or bring it back (`findmnt`, `dmesg -T`).";

    CAPTURE_THREAD_STILL = 1113;
        means: "A thread that captures screen or sound stands still, and the watchdog has not ended it.";
        recordings: "One recording stands still, and what it has captured is kept. A restart has its meeting joined \
                     again.";
        cause: "The host hangs, or this program has a fault.";
        remedy: "Look at load and memory (`top`, `dmesg -T`). If it stays so, restart the recorder: all of its \
                 recordings go on as new parts.";

    TASKS_DO_NOT_RUN = 1114;
        means: "The program starts no new tasks.";
        recordings: "Running recordings are at risk. A restart has their meetings joined again.";
        cause: "All threads are busy, or hang on a disk or network share.";
        remedy: "Find the mount that hangs (`dmesg -T`, `ps axo pid,stat,wchan,comm`) and bring it back. If it stays \
                 so, restart the recorder.";
}
