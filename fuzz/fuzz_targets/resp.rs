#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| domo_token::fuzzing::resp(bytes));
