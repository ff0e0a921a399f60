//! What a function must not look like, and what the compiler then says.

#[test]
fn compiler_says_what_is_wrong() {
    trybuild::TestCases::new().compile_fail("tests/refused/*.rs");
}
