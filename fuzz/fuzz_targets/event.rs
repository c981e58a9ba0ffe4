#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sideband_fuzz::event(data));
