#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let parser = mutations::Parser::named("gguf").expect("it is one of the parsers");
    (parser.read)(input);
});
