//! Terminals: the line discipline, job control, window size. (Skeleton.)
