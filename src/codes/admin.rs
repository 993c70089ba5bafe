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
}
