//! Device drivers, behind the traits of lower layers. Only `init` names them. (Skeleton.)

#[cfg(target_os = "none")]
pub mod uart;
