//! See `freemkvd_tests::fuzz::connection`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| freemkvd_tests::fuzz::connection(input));
