//! A names of any bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ddock_fuzz::names(bytes));
