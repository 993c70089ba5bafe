//! Codes of the check of this host. Pure.

use crate::codes::code::room;

room! {
    CHECK: "The check of this host";

    CHECK_FOUND = 1301;
        means: "The check at the start found something that is not well.";
        cause: "The line names the check and what to do.";
        remedy: "Follow the line; docs/check.md describes each check. `plugnmeet-recorder check` looks again.";
}
