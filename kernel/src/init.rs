//! The boot list, in order, with one reason each. (Skeleton: the arch owner fills it in.)
