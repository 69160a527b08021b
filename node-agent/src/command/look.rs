//! `plan` and `dump`: look, and change nothing.

use std::path::PathBuf;

use serde::Serialize;
use towpath_kernel::host::HostKernel;
use towpath_kernel::kernel::Kernel as _;
use towpath_kernel::leases::Store;
use towpath_kernel::sysctl::Sysctls;
use towpath_net::observed::{Desired, Observed};
use towpath_net::plan::plan as plan_of;
use towpath_net::render::{Rendered, render, settings_of};

use super::CommandError;
use crate::args::Place;
use crate::keys::Keeper;

/// The node as it should be and as it is.
struct Look {
    rendered: Rendered,
    observed: Observed,
}

async fn look(place: &Place) -> Result<Look, CommandError> {
    let paths = place.paths(PathBuf::new());
    let assignment = super::told::state(place, &paths).await?;
    let mut kernel = HostKernel::open(Sysctls::below(&place.proc_sys))?;
    let leases = Store::below(&place.state_dir).read_all()?.leases;
    let observed = kernel.observe(&settings_of(&assignment.state, &leases).into_keys().collect())?;
    let keys = Keeper::keys_in(&paths.wireguard_keys());
    let rendered = render(&assignment.state, &leases, &observed.surroundings, keys.as_ref());
    Ok(Look { rendered, observed })
}

/// Prints what would be changed, an operation a line.
pub async fn plan(place: Place) -> Result<(), CommandError> {
    let Look { rendered, observed } = look(&place).await?;
    let plan = plan_of(&rendered.desired, &observed);
    for op in &plan.ops {
        println!("{op}");
    }
    for to in &plan.conflicts {
        println!("cannot add route {to}: somebody else has a route to the same destination");
    }
    for obstacle in &rendered.obstacles {
        println!("cannot be as declared: {obstacle}");
    }
    if plan.ops.is_empty() && plan.conflicts.is_empty() && rendered.obstacles.is_empty() {
        println!("nothing to change: the kernel is as it should be");
    }
    Ok(())
}

/// What `dump` prints.
#[derive(Serialize)]
struct Dump {
    desired: Desired,
    observed: Observed,
}

/// Prints the desired and the observed state.
pub async fn dump(place: Place) -> Result<(), CommandError> {
    let Look { rendered, observed } = look(&place).await?;
    print!("{}", serde_yaml_ng::to_string(&Dump { desired: rendered.desired, observed })?);
    Ok(())
}
