//! Codes of the fleet and NATS. Pure.

use crate::codes::code::room;

room! {
    FLEET: "Fleet and NATS";

    COST_UNKNOWN = 802;
        means: "What the running recordings take of the processors cannot be measured.";
        recordings: "Not concerned. recorder.max_load counts a typical cost for each meanwhile.";
        cause: "/proc does not answer, as where a process hangs on a dead disk.";
        remedy: "Look for processes in state D (`ps axo pid,stat,wchan,comm`) and for their disk (`dmesg -T`).";

    ID_LOST = 803;
        means: "Another recorder has this node's recorder.id, so this one takes nothing on.";
        recordings: "Running recordings go on. New ones go to the other recorder, or fail.";
        cause: "Two nodes have the same recorder.id, as after a copy of a configuration or of a virtual machine. The \
                line names the host of the other one.";
        remedy: "Give one of them another recorder.id and restart it, or stop it. The id is taken back when the \
                 other one has been silent for 10 s.";

    NOT_LEFT = 804;
        means: "This node could not leave the fleet in time.";
        recordings: "Not concerned. For up to 8 s the server may choose this node, and a recording started then \
                     fails.";
        cause: "NATS does not answer. The line names the error.";
        remedy: "Nothing: the server drops the node when its pings stop.";

    ANNOUNCED_WITHOUT_WORK = 805;
        means: "This node is announced to the fleet, but takes nothing on yet.";
        recordings: "No new recording begins here. Running ones go on.";
        cause: "`reason` in the line is what a START would be refused with, `why` has the details.";
        remedy: "Mend what `why` names; `this node has joined the fleet` follows by itself.";

    NOT_ANNOUNCED = 806;
        means: "This node cannot announce itself, so the server does not choose it.";
        recordings: "No new recording begins here. Running ones go on.";
        cause: "NATS does not answer, or forbids to write into the bucket nats_info.recorder.recorder_info_kv. The \
                line names the error.";
        remedy: "See that NATS runs. If it forbids (PNR-0827), set nats_info.recorder.recorder_info_kv to the name \
                 in the plugNmeet server's configuration. It is tried every 0.5 s.";

    ID_NOT_TAKEN = 807;
        means: "The recorder id cannot be taken, so this node gets no work.";
        recordings: "No new recording begins here. Running ones go on.";
        cause: "NATS does not answer, or forbids to write into the bucket nats_info.recorder.recorder_info_kv. The \
                line names the error.";
        remedy: "See that NATS runs. If it forbids (PNR-0827), set nats_info.recorder.recorder_info_kv to the name \
                 in the plugNmeet server's configuration. It is tried again by itself.";

    LOAD_UNKNOWN = 808;
        means: "The load of this machine is not known to the fleet.";
        recordings: "Not concerned. The server may choose this node although it is busy.";
        cause: "/proc/stat cannot be read, as in some containers.";
        remedy: "Mount /proc in the container, readable for the recorder's user.";

    NATS_LACKS_SOMETHING = 820;
        means: "A bucket, stream or consumer that the plugNmeet server makes is not there yet.";
        recordings: "Without the bucket no recording begins here; without the stream or consumer no MP4 is made.";
        cause: "The plugNmeet server has not started yet, or uses other names. The line says what is missing.";
        remedy: "Start the plugNmeet server, and set the names in nats_info.recorder as they are in its \
                 configuration. It is looked for again by itself.";

    NATS_SILENT = 821;
        means: "NATS does not say whether a bucket, stream or consumer is there.";
        recordings: "Without the bucket no recording begins here; without the stream or consumer no MP4 is made.";
        cause: "JetStream of NATS has no leader, is switched off, or a right is missing. The line says what was \
                asked for.";
        remedy: "`nats server report jetstream` shows whether it has a leader. It is asked again by itself.";

    NATS_NOT_CONNECTED = 822;
        means: "There is no connection to NATS.";
        recordings: "No new recording begins here, and a stop does not arrive. Running recordings go on, and what \
                     has ended is stored.";
        cause: "No server of nats_info.nats_urls answers or accepts the token. The line names the answer of each.";
        remedy: "Follow the end of the line. `plugnmeet-recorder check` tries each server by itself: address, \
                 firewall, TLS, token. It is tried on.";

    NATS_LOST = 823;
        means: "The connection to NATS is lost and is made again.";
        recordings: "Running recordings go on. Until it is made again, none begins here, and a stop does not arrive.";
        cause: "The NATS server ended or restarted, or the network broke. The line names the servers.";
        remedy: "Nothing where `connected to NATS again` follows. Else start the NATS server; PNR-0822 then says why \
                 it is not reached.";

    NATS_MESSAGES_DROPPED = 824;
        means: "Messages from NATS are dropped.";
        recordings: "A START or a STOP of the server may be lost. Running recordings go on.";
        cause: "The recorder does not keep up with them, as on an overloaded host.";
        remedy: "Look at the load (`top`) and lower recorder.max_limit. If a recording did not stop, stop it on the \
                 node's page.";

    NATS_TOKEN_REFUSED = 825;
        means: "NATS refuses this node's token.";
        recordings: "No new recording begins here, and a stop does not arrive. Running recordings go on.";
        cause: "plugNmeet_info.api_key or plugNmeet_info.api_secret is not the server's, the clocks differ by \
                minutes, or the plugNmeet server, which answers for NATS, does not run.";
        remedy: "See that the plugNmeet server runs; compare both keys with its configuration (`client.api_key`, \
                 `client.secret`), and the clocks (`timedatectl`). It is tried on.";

    NATS_CLIENT = 826;
        means: "The NATS client of this program reports a fault of its own.";
        recordings: "Not concerned by this line alone.";
        cause: "The line has its words; mostly a connection that broke off while something was sent.";
        remedy: "Nothing where the line comes once. Where it repeats, see that NATS runs and report the line.";

    NATS_FORBIDS = 827;
        means: "NATS forbids this node to use a subject.";
        recordings: "Depending on the subject no recording begins here, or no MP4 is made.";
        cause: "The names in nats_info.recorder are not those of the plugNmeet server's configuration. `server_says` \
                names the subject.";
        remedy: "Set the three names in nats_info.recorder as they are in the server's configuration, and restart \
                 the recorder. `plugnmeet-recorder check` tries each right.";

    NATS_ERROR = 828;
        means: "NATS reports an error.";
        recordings: "Not concerned by this line alone.";
        cause: "`server_says` has the words of the NATS server.";
        remedy: "Read the log of the NATS server at this time, where the line repeats.";

    QUEUE_NOT_FETCHED = 829;
        means: "No transcoding jobs can be fetched.";
        recordings: "Safe as raw files; their MP4s come later, or from other nodes.";
        cause: "NATS is away, or its stream or consumer was removed. The line names the error.";
        remedy: "See that NATS runs. If stream or consumer is missing, restart the plugNmeet server, which makes \
                 them. It is tried on.";

    JOB_NOT_HANDED_BACK = 830;
        means: "A transcoding job that came while the recorder stopped could not be handed back.";
        recordings: "Safe; its MP4 comes 10 min later.";
        cause: "NATS was away at that moment.";
        remedy: "Nothing: NATS hands it out again.";
}
