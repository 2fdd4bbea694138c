//! Behaviour of the booted image, tested from outside: see `tests/`.
