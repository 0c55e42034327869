#![no_main]

#[path = "../../rust/core/examples/fuzz/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::images::image_url(data));
