//! Codes of broadcasts' far ends. Pure.

use crate::codes::code::room;

room! {
    BROADCAST: "Broadcasts: the far end";

    BIT_RATE_NOT_CHANGED = 401;
        means: "A broadcast goes on as it is: no encoder with another bit rate could be started.";
        cause: "ffmpeg did not start in time: the machine is overloaded.";
        remedy: "Look at the load of the machine. It is tried again as the line demands.";

    ENCODER_REPLACED_BADLY = 402;
        means: "An encoder that was replaced did not end well.";
        cause: "ffmpeg failed or hung while the bit rate was changed.";
        remedy: "Nothing: the broadcast lacks a moment.";

    BIT_RATE_LOWERED = 403;
        means: "The far end takes less than the broadcast sends, so the bit rate is lowered.";
        cause: "The uplink of this host, or the far end, is slower than -b:v.";
        remedy: "Look at the uplink, or lower -b:v in ffmpeg_settings.rtmp.";

    STRANGER_AT_RELAY = 404;
        means: "Somebody else on this host has connected to the relay of a broadcast and was turned away.";
        cause: "Another program tries ports on 127.0.0.1.";
        remedy: "Find out which program does that. The broadcast is not concerned.";

    PICTURES_LEFT_OUT = 405;
        means: "The far end takes less than the broadcast sends, so pictures are left out.";
        cause: "The uplink of this host, or the far end, is too slow.";
        remedy: "Lower -b:v in ffmpeg_settings.rtmp, or look at the uplink. The sound is whole.";

    FAR_END_NOT_REACHED = 406;
        means: "The broadcast does not get through to its far end.";
        cause: "The address is wrong or refuses the stream key, or a firewall stops it. The line names the answer.";
        remedy: "Check the stream's URL and key at the far end, and that this host may connect there.";

    FAR_END_LOST = 407;
        means: "The far end of the broadcast is lost and is connected again.";
        cause: "The far end restarted, refused or was too slow, or the line to it broke.";
        remedy: "It is tried until it succeeds. Look at the far end and the uplink where it repeats.";

    BROADCAST_ENDS_LOST = 408;
        means: "The broadcast ends while its far end is lost.";
        cause: "The far end did not come back before the end.";
        remedy: "Nothing: the far end lacks the last part.";
}
