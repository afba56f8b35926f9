//! The laboratory end to end.

#[test]
fn placeholder() {}
