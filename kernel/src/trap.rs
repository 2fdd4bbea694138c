//! Exceptions from user and kernel mode: page faults to `vm`, the rest to signals or a panic.
//! (Skeleton: the arch owner fills it in.)
