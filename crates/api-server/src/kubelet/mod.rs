//! What the server does not know itself: logs of containers and ports of pods, which it asks the kubelet of the pod's node
//! for. It finds the kubelet as a real server does, by the Node's status, but speaks plain HTTP to it and says nothing of
//! who it is.

mod call;
mod location;
mod log_options;
mod tunnel;
mod upgrade;

pub(crate) use self::call::{Errand, carry_out};
pub(crate) use self::tunnel::Tunnel;
pub(crate) use self::upgrade::Upgrade;
