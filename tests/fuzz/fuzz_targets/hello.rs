//! See `freemkvd_tests::fuzz::hello`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| freemkvd_tests::fuzz::hello(input));
