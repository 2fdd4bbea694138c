//! The loader's shared core.
#![no_std]
