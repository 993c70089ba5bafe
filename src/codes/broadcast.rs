//! Codes of broadcasts' far ends. Pure.

use crate::codes::code::room;

room! {
    BROADCAST: "Broadcasts: the far end";

    BIT_RATE_NOT_CHANGED = 401;
        means: "A broadcast goes on with its bit rate, as no encoder with another one could be started.";
        recordings: "The broadcast goes on; pictures may be left out of it.";
        cause: "A second ffmpeg did not start in time, or its stream could not be used: the host is overloaded. The \
                line names why.";
        remedy: "Look at the load (`top`). It is tried again by itself; `rtmp.adaptive: false` switches it off.";

    ENCODER_REPLACED_BADLY = 402;
        means: "The ffmpeg from which another one took a broadcast or recording over did not end well.";
        recordings: "The broadcast or recording goes on and may lack a moment.";
        cause: "It failed or hung while the bit rate of a broadcast was changed, or while a recording went on with the \
                fast encoder. The line names the error.";
        remedy: "Nothing. Where it repeats, look at the load (`top`), or set `rtmp.adaptive: false` or \
                 `ffmpeg_settings.one_pass: false`.";

    BIT_RATE_LOWERED = 403;
        means: "The far end takes less than the broadcast sends, so its bit rate is lowered.";
        recordings: "The broadcast goes on with a coarser picture. It is raised again by itself.";
        cause: "The uplink of this host, or the far end, is slower than `-b:v` in ffmpeg_settings.rtmp.post_input. \
                The line names the far end and the rate.";
        remedy: "Look at what else uses the uplink, or lower `-b:v` for good.";

    STRANGER_AT_RELAY = 404;
        means: "A program on this host has connected to the port of a broadcast's relay and was turned away.";
        recordings: "The broadcast is not concerned.";
        cause: "It tries ports on 127.0.0.1, as a scanner or monitoring does.";
        remedy: "Nothing. Find the program (`ss -tnp`) if nothing of the kind should run here.";

    PICTURES_LEFT_OUT = 405;
        means: "The far end takes less than the broadcast sends, so pictures are left out.";
        recordings: "The broadcast goes on and its picture jerks; its sound is whole.";
        cause: "The uplink of this host, or the far end, is slower than the broadcast.";
        remedy: "Lower `-b:v` in ffmpeg_settings.rtmp.post_input, or set `rtmp.adaptive: true`, and look at what \
                 else uses the uplink.";

    FAR_END_NOT_REACHED = 406;
        means: "The broadcast is given up: its far end cannot be reached or does not take it.";
        recordings: "The broadcast ends, and its users are told with the cause. A recording of the same meeting goes \
                     on.";
        cause: "The address is wrong, the far end refuses the stream key, a firewall is between, or a lost far end \
                did not come back within rtmp.reconnect_for. The line names the far end and its answer.";
        remedy: "Compare URL and stream key with those of the far end, and try its port from here (`nc -vz HOST \
                 1935`). Then have the broadcast started again.";

    FAR_END_LOST = 407;
        means: "The far end of a broadcast is lost, and is connected again.";
        recordings: "Viewers miss the time between. After rtmp.reconnect_for the broadcast ends (PNR-0406). A \
                     recording of the same meeting is not concerned.";
        cause: "The far end restarted, refused or was too slow, or the line to it broke. The line names it and why.";
        remedy: "Nothing where `the far end takes the broadcast again` follows. Else look at the far end and at the \
                 uplink.";

    BROADCAST_ENDS_LOST = 408;
        means: "The broadcast ends while its far end is lost.";
        recordings: "The far end lacks the last part of the broadcast.";
        cause: "The broadcast was ended before its far end came back. The line names it.";
        remedy: "Nothing for this one. Look at the far end before the next broadcast.";
}
