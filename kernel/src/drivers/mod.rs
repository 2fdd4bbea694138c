//! Device drivers, behind the traits of lower layers. Only `init` names them. (Skeleton.)

pub mod uart;
