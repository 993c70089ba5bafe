//! Codes of `admin.listen`: health, metrics, the page. Pure.

use crate::codes::code::room;

room! {
    ADMIN: "Health, metrics and the node's page (admin.listen)";

    WRONG_TOKEN = 1101;
        means: "Somebody has given a wrong token to admin.listen and was refused.";
        cause: "A monitoring system or an operator has an old token, or somebody guesses.";
        remedy: "Compare with admin.token or admin.token_file. Where it is a stranger, limit who reaches admin.listen.";

    TOKEN_FILE_UNREADABLE = 1102;
        means: "admin.token_file cannot be read, so nobody can log in or drain this node.";
        cause: "The file is missing, or not readable for the recorder's user.";
        remedy: "Correct the path or the file's owner and mode.";

    LISTEN_FAILED = 1103;
        means: "admin.listen cannot be opened, so nobody can ask for health and metrics.";
        cause: "Another program has the port, as a second node on this host, or the address is not this host's.";
        remedy: "Give each node another port, or \"\" to one of them. It is tried again.";

    NOT_LOGGED_IN = 1104;
        means: "A request to the node's page or to /drain has no token or session.";
        cause: "Nobody has logged in, the session has run out, or the header is missing.";
        remedy: "Log in on the page, or send `Authorization: Bearer TOKEN` with the token of admin.token.";

    FOREIGN_PAGE = 1105;
        means: "A request that another page or another name has sent was refused.";
        cause: "A page of somebody else in a browser has asked, or the node's page was opened under another name than \
                it has.";
        remedy: "Open the page at the address of admin.listen. Scripts use the commands, or `curl` without `Origin`.";

    DRAIN_NOT_CONFIGURED = 1106;
        means: "Nobody may drain this node or see its page, as nothing is configured for it.";
        cause: "Neither admin.token nor admin.token_file is set, nor admin.allow_drain_without_token on loopback.";
        remedy: "Set one of them and restart the recorder.";

    TOO_MANY_LOGINS = 1107;
        means: "Somebody has to wait before the next login.";
        cause: "Too many wrong tokens came from this address.";
        remedy: "Wait for as long as the answer says, then give the right token.";

    NOTHING_THERE = 1108;
        means: "What a request names is not there.";
        cause: "The path or the id is wrong, the recording has ended, or its files are on another node.";
        remedy: "The page lists what this node has; docs/page.md and docs/signals.md list the paths.";

    BAD_REQUEST = 1109;
        means: "A request cannot be understood.";
        cause: "The id has characters that no id has, or the request has a body, which nothing here takes.";
        remedy: "Correct the request; docs/signals.md and docs/page.md say what is asked how.";

    TOO_MANY_VIEWERS = 1110;
        means: "Too many look at this node, or play its videos, at once.";
        cause: "The number of viewers is limited, so that recordings are not held up.";
        remedy: "Close other windows of the page, and try again.";

    NO_ORDERS_NOW = 1111;
        means: "The node takes no orders for the moment.";
        cause: "It is starting, ending or very busy.";
        remedy: "Try again in some seconds.";

    NOT_READABLE_NOW = 1112;
        means: "What a request asks for cannot be read now.";
        cause: "The disk of recorder.state_dir or main_path fails or does not answer.";
        remedy: "Look at that disk; the answer names the error.";

    CAPTURE_THREAD_STILL = 1113;
        means: "A thread that captures screen or sound stands still, and the watchdog has not ended it.";
        cause: "The machine hangs, or the program has a fault.";
        remedy: "Look at the load and the memory of the machine. A restart of the node ends its recordings, which then go \
                 on.";

    TASKS_DO_NOT_RUN = 1114;
        means: "The program starts no new tasks.";
        cause: "All of its threads are busy, or hang on a disk or network share.";
        remedy: "Look at that disk (the log may say which), and at the load. A restart of the node ends its recordings, \
                 which then go on.";
}
