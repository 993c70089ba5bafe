//! Codes of the fleet and NATS. Pure.

use crate::codes::code::room;

room! {
    FLEET: "Fleet and NATS";

    COST_UNKNOWN = 802;
        means: "What the recordings cost is not known.";
        cause: "/proc does not answer, as where a process hangs on a dead disk.";
        remedy: "Look for processes in state D (`ps`). A typical cost is counted meanwhile.";

    ID_LOST = 803;
        means: "Another recorder has this node's id, so nothing new is taken on.";
        cause: "Two nodes have the same recorder.id, as after a copy of the configuration.";
        remedy: "Give one of them an id of its own, or stop it. Running recordings go on.";

    NOT_LEFT = 804;
        means: "This node could not leave the fleet in time.";
        cause: "NATS does not answer.";
        remedy: "Nothing: the server drops the node when its pings stop.";

    ANNOUNCED_WITHOUT_WORK = 805;
        means: "This node is announced, but takes nothing on yet.";
        cause: "The line names the reason, as a full disk.";
        remedy: "Remedy the reason that the line names.";

    NOT_ANNOUNCED = 806;
        means: "This node cannot be announced to the fleet, so it gets no work.";
        cause: "NATS does not answer, or forbids the bucket.";
        remedy: "Look at NATS and at nats_info.recorder.recorder_info_kv.";

    ID_NOT_TAKEN = 807;
        means: "The recorder id cannot be taken, so this node gets no work.";
        cause: "NATS does not answer, or forbids the bucket.";
        remedy: "Look at NATS and at nats_info.recorder.recorder_info_kv; it is tried on.";

    LOAD_UNKNOWN = 808;
        means: "The load of this machine is not known to the fleet.";
        cause: "/proc/stat cannot be read, as in some containers.";
        remedy: "See that /proc is mounted, and readable for the recorder's user.";

    NATS_LACKS_SOMETHING = 820;
        means: "A bucket, stream or consumer is not there yet.";
        cause: "The plugNmeet server makes it at its start, and has not started, or uses other names.";
        remedy: "Start the server, and compare nats_info.recorder with its configuration.";

    NATS_SILENT = 821;
        means: "NATS does not say whether a bucket, stream or consumer is there.";
        cause: "JetStream has no leader, is switched off, or a right is missing.";
        remedy: "Look at NATS (`nats server report jetstream`).";

    NATS_NOT_CONNECTED = 822;
        means: "There is no connection to NATS.";
        cause: "No server of nats_info.nats_urls answers or accepts the token. The line names the answer of each.";
        remedy: "Follow the advice in the line: addresses, firewall, api_key and api_secret, TLS. It is tried on.";

    NATS_LOST = 823;
        means: "The connection to NATS is lost and is made again.";
        cause: "The NATS server ended or restarted, or the network broke.";
        remedy: "Nothing, where it comes back. Recordings go on meanwhile.";

    NATS_MESSAGES_DROPPED = 824;
        means: "Messages from NATS are dropped.";
        cause: "This process does not keep up with them, as on an overloaded machine.";
        remedy: "Look at the load. Requests of the server may be lost.";

    NATS_TOKEN_REFUSED = 825;
        means: "NATS refuses this node's token.";
        cause: "api_key or api_secret do not fit the server's, the clocks differ by minutes, or plugNmeet-server does \
                not run.";
        remedy: "Compare plugNmeet_info with the server's configuration, and the clocks. See that the server runs.";

    NATS_CLIENT = 826;
        means: "The NATS client reports something.";
        cause: "The line has its words.";
        remedy: "Where it repeats, look at NATS.";

    NATS_FORBIDS = 827;
        means: "NATS forbids a subject.";
        cause: "nats_info.recorder names other subjects than the server's configuration.";
        remedy: "Compare nats_info.recorder with the same names in the plugNmeet server's configuration.";

    NATS_ERROR = 828;
        means: "NATS reports an error.";
        cause: "The line has the words of the NATS server.";
        remedy: "Look at the log of the NATS server.";

    QUEUE_NOT_FETCHED = 829;
        means: "No jobs can be fetched from the work queue.";
        cause: "NATS is away, or the stream or consumer was removed.";
        remedy: "Look at NATS, and restart the plugNmeet server if stream or consumer is missing.";

    JOB_NOT_HANDED_BACK = 830;
        means: "A job that came while stopping could not be handed back.";
        cause: "NATS was away at that moment.";
        remedy: "Nothing: the queue hands it out again after 10 min.";
}
