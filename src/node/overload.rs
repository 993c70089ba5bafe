//! Watches what recordings cost and whether this node is overloaded, and tells when it is out of the server's choice.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::capture::process_tag;
use crate::config::RecorderConfig;
use crate::fleet::availability::Availability;
use crate::fleet::choice_log;
use crate::fleet::cost::CostLimit;
use crate::fleet::cost_watch::CostWatch;
use crate::fleet::load;
use crate::fleet::overload_watch::OverloadWatch;
use crate::fleet::slots::Slots;
use crate::process::cgroup::Cgroups;

/// What all recordings may cost: `recorder.max_load` of the processors that this node may use.
pub(super) fn cost_limit(recorder: &RecorderConfig) -> Option<CostLimit> {
    let cores = load::capacity(&Cgroups::of_this_process());
    recorder.max_load.map(|share| CostLimit { cores: share * cores })
}

/// Watches until `end`. `load`: of the processors, 0…1.
pub(super) fn watch(
    recorder: &RecorderConfig,
    slots: Slots,
    load: watch::Receiver<f64>,
    availability: Availability,
    end: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let (background, background_receiver) = watch::channel(0.0);
    let costs = CostWatch { slots, rig_variable: process_tag::VARIABLE, background };
    let obstacles = availability.watch();
    let cpu_limit = recorder.cpu_overload_limit;
    let overload = OverloadWatch { cpu_limit, load, background: background_receiver, availability };
    async move {
        tokio::join!(costs.run(end.clone()), overload.run(end.clone()), choice_log::run(obstacles, end));
    }
}
