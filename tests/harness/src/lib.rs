//! Boots virtual machines for tests.
#![no_std]
